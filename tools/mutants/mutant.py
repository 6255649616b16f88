"""One change of one file."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Mutant:
    """*old* at *start* of *file*, which is below `src`, becomes *new*."""

    file: Path
    start: int
    old: str
    new: str
    line: int

    def __str__(self) -> str:
        """Say what it changes, on one line."""
        return f"{self.file}:{self.line}: {self.change}"

    @property
    def change(self) -> str:
        """What is replaced, and by what: the key under which it is explained."""
        return f"{_short(self.old)} -> {_short(self.new) or '(nothing)'}"

    def apply(self, text: str) -> str:
        """Give the changed text."""
        return text[: self.start] + self.new + text[self.start + len(self.old) :]


def _short(text: str) -> str:
    return re.sub(r"\s+", " ", text)
