"""What was asked for, and what came of it: by the reply stream and the dead letters alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from toolspan.model import DeadLetter, Reply

KINDS: Final = {"echo": 60, "slow": 10, "threaded": 10, "fails": 5, "retried": 5, "once": 10}
KILLERS: Final = 10


@dataclass
class Ledger:
    """Every call by its number; *replies* says how many final ones each got."""

    seed: int
    calls: int
    replies: bytearray = field(init=False)
    unsure: set[int] = field(default_factory=set)
    """Those whose append was not answered: they may have come to be or not."""
    quarantined: Counter[str] = field(default_factory=Counter)
    buried: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replies = bytearray(self.calls)
        chosen = random.Random(self.seed)
        self.killers = set(chosen.sample(range(self.calls), min(KILLERS, self.calls // 100)))
        self._kinds = chosen.choices(list(KINDS), list(KINDS.values()), k=9_973)

    def tool(self, n: int) -> str:
        """Name the tool of call *n*."""
        return "killer" if n in self.killers else self._kinds[n % len(self._kinds)]

    def heard(self, reply: Reply) -> None:
        """A reply came."""
        n = int(reply.call_id)
        self.replies[n] = min(self.replies[n] + 1, 255)
        kind = reply.failure.type if reply.failure else "ok"
        if kind not in self._may_end(self.tool(n)):
            self.wrong.append(f"{n}, {self.tool(n)}: {reply.failure}")
        elif kind == "ok" and reply.result != n:
            self.wrong.append(f"{n}, {self.tool(n)}: {reply.result!r}")

    @staticmethod
    def _may_end(tool: str) -> set[str]:
        return {"fails": {"tool_error"}, "once": {"ok", "outcome_unknown"}, "killer": {"quarantined"}}.get(tool, {"ok"})

    def found_dead(self, letters: Iterable[DeadLetter]) -> None:
        """Look through all dead letters."""
        for letter in letters:
            n = int(dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))[b"id"])
            if n in self.buried:
                self.wrong.append(f"{n}, {self.tool(n)}: two dead letters")
            self.buried.add(n)
            self.quarantined[f"{self.tool(n)}, {letter.reason}"] += 1

    @property
    def answered(self) -> int:
        """How many calls have at least one reply."""
        return self.calls - self.replies.count(0)

    def lost(self) -> list[int]:
        """List the calls that were appended for certain and have no reply."""
        return [n for n in range(self.calls) if not self.replies[n] and n not in self.unsure]

    def doubled(self) -> list[int]:
        """List the calls that have more than one reply."""
        return [n for n in range(self.calls) if self.replies[n] > 1]

    def innocent(self) -> list[int]:
        """List the calls that were quarantined for what others did."""
        return sorted(n for n in self.buried if self.tool(n) not in {"killer", "once"})


def run_twice(folder: Path) -> list[int]:
    """List the at-most-once calls that ran more than once, by the files that they left."""
    runs: Counter[int] = Counter()
    for file in folder.glob("once-*"):
        runs.update(int(line) for line in file.read_text().split())
    return sorted(n for n, times in runs.items() if times > 1)


def arguments(n: int) -> dict[str, Any]:
    """Give the arguments of call *n*."""
    return {"n": n}
