"""Free ports for servers that are told theirs."""

from __future__ import annotations

from typing import Final

from toolspan.testing.ports import ReservedPort

_RESERVED: Final[list[ReservedPort]] = []


def free_port() -> int:
    """Give a loopback port that is kept free of others until this process ends."""
    port = ReservedPort()
    _RESERVED.append(port)
    return port.number
