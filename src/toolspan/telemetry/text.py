"""Text as it can travel: half surrogates are no UTF-8, and one of them fails all that is exported together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def clean(text: str) -> str:
    """Give *text* with a question mark for each half surrogate."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def cleaned(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Give *attributes* with clean texts, and without those that are None."""
    return {
        name: clean(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }
