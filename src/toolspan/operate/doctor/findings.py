"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from toolspan.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Level: TypeAlias = Literal["ok", "unknown", "warn", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What *check* found, in one sentence; *fix* is what to change, a command where there is one."""

    check: str
    level: Level
    message: str
    fix: str = ""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", message)


def unknown(check: str, message: str, fix: str = "") -> Finding:
    """It cannot be told from here."""
    return Finding(check, "unknown", message, fix)


def warn(check: str, message: str, fix: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check, "warn", message, fix)


def problem(check: str, message: str, fix: str) -> Finding:
    """It does not work, or calls are in danger."""
    return Finding(check, "problem", message, fix)


async def looked_at(check: str, look: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Give what *look* finds; what the server refuses to tell is unknown, for managed ones refuse much.

    Raises:
        StoreUnavailableError: if there is no server to ask.
    """
    try:
        return await look()
    except StoreUnavailableError:
        raise
    except StoreError as exc:
        return [unknown(check, f"the server does not tell: {exc}")]
