"""What operators ask of the workers, as it lies in the control hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from toolspan.model import Control, Order

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAUSE = "pause:"
_DRAIN = "drain:"


def decode_control(values: Sequence[bytes]) -> Control:
    """Read field, value, field, value …; what is asked for holds even where who asked cannot be read."""
    control = Control({}, {})
    for field, value in zip(values[::2], values[1::2], strict=True):
        name = field.decode(errors="replace")
        if name.startswith(_PAUSE):
            control.paused[name.removeprefix(_PAUSE)] = decode_order(value)
        elif name.startswith(_DRAIN):
            control.draining[name.removeprefix(_DRAIN)] = decode_order(value)
    return control


def decode_order(value: bytes) -> Order:
    """Read who asked for it, why and when, as far as that can be read."""
    try:
        told: Any = from_json(value)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return Order("", "", 0)
    at = told.get("at")
    at_ms = int(at) if isinstance(at, int | float) and 0 <= at < 2**53 else 0
    return Order(_text(told.get("who")), _text(told.get("why")), at_ms)


def _text(told: Any) -> str:
    return told if isinstance(told, str) else ""
