"""What was asked for, and what came of it: by the reply stream, the dead letters and the tools' own files alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from toolspan.model import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from toolspan.model import DeadLetter, Remembered, Reply

KINDS: Final = {
    "echo": 46,
    "slow": 8,
    "threaded": 8,
    "fails": 5,
    "retried": 5,
    "once": 8,
    "keyed": 4,
    "unheard": 4,
    "brief": 2,
    "given_up": 2,
    "tells": 2,
    "scarce": 2,
    "elsewhere": 4,
}
_ENDS: Final = {
    "fails": {"tool_error"},
    "once": {"ok", "outcome_unknown"},
    "brief": {"ok", "deadline_exceeded"},
    "given_up": {"cancelled"},
    "killer": {"quarantined"},
}
_BURIED: Final = {"once": "outcome_unknown", "killer": "quarantined"}
_CALLED: Final = {"ok", "refused", "unsure"}
_CALLS_PER_KILLER: Final = 10_000
_FEWEST_KILLERS: Final = 10


@dataclass
class Ledger:
    """Every call by its number; *replies* says how many final ones each got."""

    seed: int
    calls: int
    """Those that are sent while things go wrong."""
    more: int = 0
    """Those that are sent afterwards."""
    replies: bytearray = field(init=False)
    unsure: set[int] = field(default_factory=set)
    """Those whose append was not answered: they may have come to be or not."""
    quarantined: Counter[str] = field(default_factory=Counter)
    called: Counter[str] = field(default_factory=Counter)
    """What the gateway's calls came to, by its own files."""
    longest_wait: float = 0.0
    """The longest time in seconds after which one of them was answered."""
    answered: int = 0
    """How many calls have at least one reply."""
    wrong: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """Replies to calls that were none, as a second run of one key would be."""

    def __post_init__(self) -> None:
        self.replies = bytearray(self.calls + self.more)
        chosen = random.Random(self.seed)
        killers = min(max(_FEWEST_KILLERS, self.calls // _CALLS_PER_KILLER), self.calls // 100)
        self.killers = set(chosen.sample(range(self.calls), killers))
        self._kinds = chosen.choices(list(KINDS), list(KINDS.values()), k=9_973)
        self._told: dict[int, dict[tuple[str, int], int]] = {}
        self._ended: dict[int, str] = {}
        self._buried: set[int] = set()

    def tool(self, n: int) -> str:
        """Name the tool of call *n*."""
        return "killer" if n in self.killers else self._kinds[n % len(self._kinds)]

    def heard(self, answer: Reply | Progress) -> None:
        """A reply came, or progress."""
        if not answer.call_id.isdecimal():
            self.strange.append(answer.call_id)
        elif isinstance(answer, Progress):
            self._told_of(int(answer.call_id), answer)
        else:
            self._replied(int(answer.call_id), answer)

    def _told_of(self, n: int, progress: Progress) -> None:
        """Each run tells in order, none tells once another has begun to, or once there is a reply.

        A group that was made anew counts attempts from 1 again: between two runs their numbers say nothing, and one
        that takes over its new delivery goes on under another number.
        """
        run, told = (progress.consumer, progress.attempt), self._told.setdefault(n, {})
        begins_again = progress.seq == 1 and run != next(reversed(told), None)
        if begins_again:
            told.pop(run, None)
        stale = run in told and run != next(reversed(told))
        if self.replies[n] or stale or progress.seq <= told.get(run, 0):
            self.wrong.append(f"{n}: progress {progress.seq} of {run} after {told}, {self.replies[n]} replies")
        told[run] = progress.seq

    def _replied(self, n: int, reply: Reply) -> None:
        self.answered += not self.replies[n]
        self.replies[n] = min(self.replies[n] + 1, 255)
        self._told.pop(n, None)
        tool = self.tool(n)
        end = reply.failure.type if reply.failure else "ok"
        if end not in _ENDS.get(tool, {"ok"}):
            self.wrong.append(f"{n}, {tool}: {reply.failure or 'ok'}")
        elif end == "ok" and reply.result != n:
            self.wrong.append(f"{n}, {tool}: {reply.result!r}")
        if end == _BURIED.get(tool):
            self._ended[n] = end

    def joined(self, n: int, known: Remembered) -> None:
        """Call *n* was sent once more under its key."""
        if known.call_id != str(n) or (known.reply is not None and known.reply.result != n):
            self.wrong.append(f"{n}: its key stands for {known}")

    def found_dead(self, letters: Iterable[DeadLetter]) -> None:
        """Look through all dead letters: each belongs to a reply that says the same."""
        for letter in letters:
            n = int(dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))[b"id"])
            if n in self._buried:
                self.wrong.append(f"{n}, {self.tool(n)}: two dead letters")
            self._buried.add(n)
            self.quarantined[f"{self.tool(n)}, {letter.reason}"] += 1
        buried = {n for n in self._buried if self.tool(n) in _BURIED}
        self.wrong += [f"{n}, {self.tool(n)}: no dead letter" for n in self._ended.keys() - buried]
        self.wrong += [f"{n}, {self.tool(n)}: a dead letter, and no such reply" for n in buried - self._ended.keys()]

    def read(self, folder: Path) -> None:
        """Read what was run for nobody, and what the gateway has heard."""
        for n in _numbers(folder, "unheard"):
            self.replies[n] = 1
        for file in folder.glob("called-*"):
            for line in file.read_text().splitlines():
                _, seconds, end = line.split(" ", 2)
                if end == "ok":
                    self.longest_wait = max(self.longest_wait, float(seconds))
                self.called[end if end in _CALLED else "wrong"] += 1
                if end not in _CALLED:
                    self.wrong.append(f"the gateway's {line}")

    def lost(self) -> list[int]:
        """List the calls that were appended for certain and have no reply."""
        return [n for n, times in enumerate(self.replies) if not times and n not in self.unsure]

    def doubled(self) -> list[int | str]:
        """List the calls that have more than one reply, and replies that should not be."""
        return [*(n for n, times in enumerate(self.replies) if times > 1), *self.strange]

    def innocent(self) -> list[int]:
        """List the calls that were quarantined for what others did."""
        return sorted(n for n in self._buried if self.tool(n) not in _BURIED)


def run_twice(folder: Path) -> list[int]:
    """List the at-most-once calls that ran more than once, by the files that they left."""
    return sorted(n for n, times in Counter(_numbers(folder, "once")).items() if times > 1)


def _numbers(folder: Path, kind: str) -> Iterable[int]:
    for file in folder.glob(f"{kind}-*"):
        yield from map(int, file.read_text().split())


def arguments(n: int) -> dict[str, Any]:
    """Give the arguments of call *n*."""
    return {"n": n}
