"""Every `TOOLSPAN_*` variable with its default and meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tools.pages.markdown import heading, pages_of, table
from toolspan.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

INTRO = "Variables of the environment, or lines of `.env`. Telemetry has the standard `OTEL_*` variables."


def page() -> str:
    """Make the page."""
    rows = [
        (f"`TOOLSPAN_{name.upper()}`", default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return pages_of(
        heading("Settings", source="src/toolspan/settings.py"), INTRO, table(("variable", "default", "meaning"), rows)
    )


def default(field: FieldInfo) -> str:
    """The default as one would write it into the environment, if there is one."""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value, default=str)}`"
