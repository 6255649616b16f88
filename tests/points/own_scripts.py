"""Loaded by a worker, it gives it scripts that no server knows yet, as after a failover or a new version."""

from __future__ import annotations

import secrets

from toolspan import tool
from toolspan.store import scripts

_theirs = scripts.compose
_end = f"\n-- {secrets.token_hex(8)}"
scripts.compose = lambda name: _theirs(name) + _end  # type: ignore[assignment]


@tool
async def idle() -> None:
    """Do nothing: a module without tools cannot be loaded."""
