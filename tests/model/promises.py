"""The promises of the protocol about one call, small enough to be seen to be right: what each step may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PARKED: Final = "~parked"
WAITING: Final = None
SUSPECT_FROM: Final = 2


@dataclass
class Call:
    """One call that is neither settled nor quarantined: who holds it, and what was tried."""

    id: str
    owner: str | None = WAITING
    attempt: int = 0
    expired: bool = False
    """Whether its lease is over."""
    begun: bool = False
    """Whether the attempt is counted: a claimed call is, once it was started; an orphan that need not wait, at once."""
    losses: int = 0
    on_record: tuple[str, int] | None = None
    """Worker and number of the last attempt on record."""
    has_end: bool = False
    """Whether the end of that is on record, too."""
    mark: str | None = None
    replay_of: str | None = None

    def is_held_by(self, worker: str, attempt: int) -> bool:
        """Tell whether the fence lets *worker* pass that believes in *attempt*."""
        return self.owner == worker and self.attempt == attempt

    def note(self, worker: str, attempt: int) -> None:
        """Have an attempt that runs on record."""
        if self.has_end or self.on_record != (worker, attempt):
            self.on_record, self.has_end = (worker, attempt), False

    def lose(self) -> int:
        """Give how many losses there are once its holder has lost it.

        One that was not begun is none. Nor is one of a re-created group, which counts from 1 again, until it has come
        to a number that is not on record.
        """
        known = self.on_record is not None and self.has_end and self.on_record[1] >= self.attempt
        if self.attempt == 0 or known or self.owner is None:
            return self.losses
        self.note(self.owner, self.attempt)
        self.has_end = True
        return self.losses + 1

    def must_end(self, max_attempts: int) -> bool:
        """Tell whether a claim of it ends in its quarantine, so that it runs in nobody's process again."""
        return self.mark is not None or self.attempt >= max_attempts

    def is_suspect(self, max_attempts: int) -> bool:
        """Tell whether it may be what kills workers."""
        return self.losses >= SUSPECT_FROM and not self.must_end(max_attempts)


@dataclass
class Plane:
    """All calls, by their entry ids in the order of these, and all that came out."""

    live: dict[str, Call] = field(default_factory=dict)
    replies: list[str] = field(default_factory=list)
    """The call ids of the replies, in their order."""
    dead: dict[str, str] = field(default_factory=dict)
    """Dead letter id to call id."""
    paused_by: str | None = None
    """Who has paused the tool of all these calls."""
    given_up: set[str] = field(default_factory=set)
    """The ids of the calls that their callers gave up."""

    def append(self, entry_id: str, call: Call) -> None:
        """A call is appended."""
        self.live[entry_id] = call

    def waiting(self) -> list[str]:
        """The entries that nobody was given, in the order in which they will be."""
        return [entry_id for entry_id, call in self.live.items() if call.owner is WAITING]

    def held_by(self, owner: str) -> list[str]:
        """The entries that *owner* holds, oldest first."""
        return [entry_id for entry_id, call in self.live.items() if call.owner == owner]

    def read(self, worker: str, count: int) -> list[str]:
        """The entries that a read gives."""
        given = self.waiting()[:count]
        for entry_id in given:
            call = self.live[entry_id]
            call.owner, call.attempt, call.expired, call.begun = worker, 1, False, True
        return given

    def claim(self, worker: str, owner: str, *, count: int, suspects: int, max_attempts: int) -> list[str]:
        """The orphans of *owner* that a claim gives."""
        looked_at = [entry_id for entry_id in self.held_by(owner) if self.live[entry_id].expired][:count]
        left = [suspects]
        return [entry_id for entry_id in looked_at if self._hand_over(entry_id, worker, left, max_attempts)]

    def claim_all(self, worker: str, entry_ids: list[str], *, suspects: int, max_attempts: int) -> list[str]:
        """Those of *entry_ids* that a claim of what is due gives."""
        left = [suspects]
        return [entry_id for entry_id in entry_ids if self._hand_over(entry_id, worker, left, max_attempts, lost=False)]

    def _hand_over(
        self, entry_id: str, worker: str, suspects: list[int], max_attempts: int, *, lost: bool = True
    ) -> bool:
        call = self.live[entry_id]
        record = call.on_record, call.has_end
        losses = call.lose() if lost else call.losses
        suspect = losses >= SUSPECT_FROM and not call.must_end(max_attempts)
        if suspect:
            if not suspects[0]:
                call.on_record, call.has_end = record
                return False
            suspects[0] -= 1
        call.losses, call.owner, call.expired, call.begun = losses, worker, False, False
        if lost and not suspect and not call.must_end(max_attempts):
            call.attempt, call.begun = call.attempt + 1, True
            call.note(worker, call.attempt)
        return True

    def start(self, worker: str, entry_id: str, *, held: int, attempt: int, token: str) -> int:
        """Begin an attempt: 1, or 0 where the fence refuses, or 2 where another start's mark does."""
        call = self.live.get(entry_id)
        if call is None or call.owner != worker or call.attempt not in {held, attempt}:
            return 0
        if token and call.mark not in {None, token}:
            return 2
        call.attempt, call.begun, call.expired = attempt, True, False
        call.note(worker, attempt)
        call.mark = token or call.mark
        return 1

    def keep(self, worker: str, believed: list[tuple[str, int]]) -> list[str]:
        """Renew what is still ours, and give what is not."""
        lost = []
        for entry_id, attempt in believed:
            call = self.live.get(entry_id)
            if call is not None and call.is_held_by(worker, attempt):
                call.expired = False
                call.note(worker, attempt)
            elif call is None or call.owner is not WAITING:
                lost.append(entry_id)
        return lost

    def settle(self, worker: str, entry_id: str, attempt: int) -> int:
        """End a call with its reply: 1, or 0 where the fence refuses, or 3 where it will be handed out anew."""
        call = self.live.get(entry_id)
        if call is not None and call.is_held_by(worker, attempt):
            self.replies.append(self.live.pop(entry_id).id)
            return 1
        return 3 if call is not None and call.owner is WAITING else 0

    def park(self, worker: str, entry_id: str, attempt: int, *, count: int, released: bool) -> bool:
        """Park a call, *count* attempts of which count from now on."""
        call = self.live.get(entry_id)
        if call is None or not call.is_held_by(worker, attempt):
            return False
        # What is given back before it was begun was no attempt.
        if not released or (call.on_record == (worker, attempt) and not call.has_end):
            call.note(worker, attempt)
            call.has_end = True
        call.owner, call.attempt, call.expired, call.begun = PARKED, count, False, False
        return True

    def hold_back(self, worker: str, entry_id: str, attempt: int, *, count: int) -> int:
        """Park a call of a paused tool: 1, or 0 where the fence refuses, or 2 where the tool is not paused any more."""
        if not self.park(worker, entry_id, attempt, count=count, released=True):
            return 0
        return 2 if self.paused_by is None else 1

    def cancelled(self, call_ids: list[str]) -> list[str]:
        """Those of *call_ids* of which a heartbeat says that they were given up."""
        return [call_id for call_id in call_ids if call_id in self.given_up]

    def quarantine(self, worker: str, entry_id: str, attempt: int) -> bool:
        """End a call as a dead letter, and tell its caller."""
        call = self.live.get(entry_id)
        if call is None or not call.is_held_by(worker, attempt):
            return False
        self.replies.append(self.live.pop(entry_id).id)
        return True

    def lose_group(self) -> None:
        """Forget all that was handed out."""
        for call in self.live.values():
            call.owner, call.attempt, call.expired, call.begun = WAITING, 0, False, False
