"""One change of one file."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, order=True)
class Mutant:
    """*old* at *start* of *file*, which is below `src`, becomes *new*."""

    file: Path
    start: int
    old: str
    new: str
    line: int
    context: str = ""
    """The line it is in, where the same change is made at other places of the file too; its number there from 2 on."""

    def __str__(self) -> str:
        """Say what it changes, on one line."""
        return f"{self.file}:{self.line}: {self.change}"

    @property
    def change(self) -> str:
        """What is replaced, and by what: the key under which it is explained."""
        change = f"{_short(self.old)} -> {_short(self.new) or '(nothing)'}"
        return f"{change} in: {self.context}" if self.context else change

    def apply(self, text: str) -> str:
        """Give the changed text."""
        return text[: self.start] + self.new + text[self.start + len(self.old) :]


def told_apart(mutants: Collection[Mutant], text: str) -> list[Mutant]:
    """Give all *mutants* of *text* in their order; those that look alike with their lines, numbered within each."""
    times = Counter(mutant.change for mutant in mutants)
    seen: Counter[tuple[int, str]] = Counter()
    lines = text.splitlines()
    told: list[Mutant] = []
    for mutant in sorted(mutants):
        context = ""
        if times[mutant.change] > 1:
            place = mutant.line, mutant.change
            seen[place] += 1
            number = f" ({seen[place]})" if seen[place] > 1 else ""
            context = f"{lines[mutant.line - 1].strip()}{number}"
        told.append(replace(mutant, context=context))
    return told


def _short(text: str) -> str:
    return re.sub(r"\s+", " ", text)
