"""The demo's calls: which, how many at once, and what became of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLERS: Final = 32
_TIMEOUT: Final = 60
_LIKELY_STATUSES: Final = (200, 400, 404)


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of call, and how often it is made."""

    tool: str
    args: dict[str, Any]
    count: int
    meaning: str


KINDS: Final = (
    Kind("search", {"query": "redis streams"}, 240, "quick"),
    Kind("summarise", {"text": "It was a dark and stormy night"}, 72, "slow"),
    Kind("translate", {"text": "xyzzy"}, 24, "fails"),
    Kind("search", {"query": "redis", "limit": "many"}, 12, "invalid arguments"),
    Kind("tranlsate", {"text": "a typing error"}, 6, "unknown tool"),
    Kind("render", {"page": "/"}, 1, "kills its worker"),
)
TOTAL: Final = sum(kind.count for kind in KINDS)


@dataclass(slots=True)
class Tally:
    """What became of the calls so far."""

    answered: int = 0
    """Replies of any kind."""
    again: int = 0
    """Calls that needed more than one attempt."""
    outcomes: dict[Kind, Counter[str]] = field(default_factory=dict)
    """For each kind: how many ended in which way."""
    unanswered: list[str] = field(default_factory=list)
    """Why, for each call without a reply of a worker."""


async def run(port: int, *, tally: Tally, told: Callable[[], None]) -> None:
    """Make all calls over HTTP, as many at once as there are callers; *told* is called after each."""
    tally.outcomes = {kind: Counter() for kind in KINDS}
    loop = asyncio.get_running_loop()
    callers = ThreadPoolExecutor(_CALLERS, thread_name_prefix="caller")
    try:
        async with asyncio.TaskGroup() as group:
            for kind in _shuffled():
                group.create_task(_one(loop.run_in_executor(callers, _call, port, kind), kind, tally, told))
    finally:
        # Nothing to wait for: once the gateway ends, so do the callers.
        callers.shutdown(wait=False, cancel_futures=True)


def _shuffled() -> list[Kind]:
    """Mix the calls, in the same order every time; what kills workers comes when the load is at its height."""
    calls = [kind for kind in KINDS[:-1] for _ in range(kind.count)]
    random.Random(1).shuffle(calls)  # noqa: S311
    calls.insert(len(calls) // 2, KINDS[-1])
    return calls


async def _one(answer: asyncio.Future[dict[str, Any]], kind: Kind, tally: Tally, told: Callable[[], None]) -> None:
    try:
        body = await answer
    except (OSError, ValueError) as exc:
        tally.unanswered.append(f"{kind.tool}: {exc}")
    else:
        tally.answered += 1
        tally.again += body.get("attempt", 1) > 1
        tally.outcomes[kind][body["error"]["type"] if "error" in body else "ok"] += 1
    told()


def _call(port: int, kind: Kind) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        body = to_json({"args": kind.args, "timeout_ms": _TIMEOUT * 1000})
        connection.request("POST", f"/v1/tools/{kind.tool}/calls", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        read = response.read()
        if response.status not in _LIKELY_STATUSES:
            message = f"HTTP {response.status}: {read.decode(errors='replace')}"
            raise ValueError(message)
        answer: dict[str, Any] = from_json(read)
        return answer
    finally:
        connection.close()
