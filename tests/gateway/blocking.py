"""A function for `TOOLSPAN_REDACT` that blocks whoever calls it, as one that asks some other server would."""

from __future__ import annotations

import os
import time
from pathlib import Path


def slow(text: str) -> str:
    """Block for the failure of one tool, until there is a file."""
    if text == "so tool_error":
        while not Path(os.environ["UNBLOCKED_BY"]).exists():
            time.sleep(0.01)
    return text
