"""The environment of the processes that tests start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolspan.settings import Settings


def not_ours() -> dict[str, str]:
    """Give the variables of this process that neither Toolspan nor OpenTelemetry reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TOOLSPAN_", "OTEL_"))}


def saying(settings: Settings) -> dict[str, str]:
    """Give the variables that set what *settings* have otherwise than is usual."""
    usual = type(settings).model_fields
    return {f"TOOLSPAN_{name.upper()}": str(value) for name, value in settings if value != usual[name].default}
