"""Durations as people type and read them."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")


class Duration(click.ParamType[int]):
    """A whole number with a unit, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read one."""
        found = _DURATION.fullmatch(str(value))
        if not found:
            self.fail(f"{value} is not a duration such as 30s, 15m, 2h or 7d", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def told(age: float | None) -> str:
    """Say how long *age* seconds are, in the two units that matter: 3.2 s, 5 m 10 s, 2 h 5 m; nothing for None."""
    if age is None:
        return ""
    if age < _UNITS["m"]:
        # What rounds to a whole minute would not be one in words.
        return f"{min(age, 59.9):.1f} s"
    whole = int(age)
    if whole < _UNITS["h"]:
        return f"{whole // 60} m {whole % 60} s"
    if whole < _UNITS["d"]:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
