"""The redactor that a command's lines and telemetry go through."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from toolspan.redaction import Redactor

if TYPE_CHECKING:
    from toolspan.settings import Settings


def redactor(settings: Settings) -> Redactor:
    """Make the one that *settings* ask for; its module may lie where the command is typed.

    Raises:
        SettingsError: if it cannot be used.
    """
    if settings.redact is not None:
        sys.path.insert(0, "")
    return Redactor.named(settings.redact)
