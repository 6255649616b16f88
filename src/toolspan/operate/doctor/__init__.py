"""Checks of all that Toolspan stands on, each with what to change."""

from toolspan.operate.doctor.examine import examine
from toolspan.operate.doctor.findings import Finding

__all__ = ["Finding", "examine"]
