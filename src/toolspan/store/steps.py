"""What is asked of the stream for deliveries, and what it answers, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from toolspan.model import value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolspan.codec import Form
    from toolspan.model import Delivery

PARKED: Final = "~parked"
"""The consumer that holds parked calls."""


class Started(IntEnum):
    """What a start answers for a delivery. MARKED: another start of it is on record, and it may never run again."""

    NOT_OURS = 0
    DONE = 1
    MARKED = 2


class Settled(IntEnum):
    """What settling answers for a delivery. UNWRITABLE: its reply. UNDELIVERED: a group made anew will hand it out."""

    NOT_OURS = 0
    DONE = 1
    UNWRITABLE = 2
    UNDELIVERED = 3


class Parked(IntEnum):
    """What holding a delivery back answers. DUE: it is parked, but its tool is not paused any more."""

    NOT_OURS = 0
    DONE = 1
    DUE = 2


class Quarantined(IntEnum):
    """What a quarantine answers for a delivery. UNWRITABLE: the dead letters. UNANSWERED: done, but for the reply."""

    NOT_OURS = 0
    DONE = 1
    UNWRITABLE = 2
    UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of an idempotency record: *reply* as it is to stand there, or only to be told if not *kept*."""

    digest: str
    kept: bool
    reply: bytes


@dataclass(frozen=True, slots=True)
class Buried:
    """What became of a quarantine, and the id of the dead letter; empty where we know of none.

    *added* is what the script has put into the dead letter besides: times, and the list of attempts.
    """

    status: Quarantined
    letter_id: str = ""
    added: Mapping[str, str] = field(default_factory=dict)


@value
class Settlement:
    """One call to be settled: the fence, and the reply as it goes on the wire (nothing for fire and forget)."""

    entry_id: str
    attempt: int
    recorded: bool
    reply_to: str | None
    form: Form
    values: Sequence[str | bytes]
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to be begun. *held* is the count that Redis holds; *token* marks an at-most-once start."""

    entry_id: str
    held: int
    attempt: int
    token: str = ""


@value
class Claimed:
    """One entry taken over. *marked*: it was begun under at most once. *begun*: its start was written with that.

    *given_up*: whether its caller gave it up; None where nobody looked.
    """

    delivery: Delivery
    marked: bool
    begun: bool = False
    given_up: bool | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What one claim gave: *more* is where to go on, None when nothing is left.

    *gone* are the ids of entries without a body, each with its last attempt.
    """

    claimed: list[Claimed]
    gone: list[tuple[str, int]]
    more: str | None = None


@dataclass(frozen=True, slots=True)
class Burial:
    """What is written when an entry is quarantined: the dead letter's own fields, and the caller's reply if any."""

    entry_id: str
    attempt: int
    reason: str
    error_type: str
    about: Sequence[str | bytes]
    reply_to: str | None = None
    reply: Sequence[str | bytes] = ()
    ending: Ending | None = None
