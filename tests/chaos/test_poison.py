"""Calls that kill whichever worker runs them, among many that do no harm: only they end in the dead letters."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.conftest import server_names
from tests.support.eventually import eventually
from tests.support.kept import kept_running
from tests.support.runs import starts_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from toolspan.model import DeadLetter

WORKERS: Final = 4
SLOTS: Final = 20
CALLS: Final = 400
ATTEMPTS: Final = 4

# One killer on one server and ten on the other; TEST_KILLERS=1,3,10 has each of them on each.
_ASKED: Final = os.environ.get("TEST_KILLERS")
_CASES: Final = [
    (server, killers)
    for place, server in enumerate(server_names())
    for killers in (map(int, _ASKED.split(",")) if _ASKED else ((10,), (1,))[place])
]


@pytest.mark.parametrize(("server_name", "killers"), _CASES, indirect=["server_name"])
async def test_killers_are_quarantined_and_no_innocent_is(
    plane: Plane, workers: Workers, tmp_path: Path, killers: int
) -> None:
    settings = plane.settings.model_copy(update={"concurrency": SLOTS})
    runs = tmp_path / "runs"
    runs.mkdir()
    killing = {f"c{n}" for n in random.Random(killers).sample(range(CALLS), killers)}
    calls = [f"c{n}" for n in range(CALLS)]
    for call in calls:
        if call in killing:
            await plane.append("dies", call, path=str(runs / call))
        else:
            await plane.append("marked", call, path=str(runs / call), seconds=0.1)

    async with kept_running(workers, WORKERS, settings=settings):
        await eventually(lambda: _none_left(plane), because="every call has its end", within=90)
    replies = await plane.replies()
    letters = await plane.dead_letters()

    assert Counter(reply.call_id for reply in replies) == dict.fromkeys(calls, 1)
    failed = {reply.call_id: reply.failure.type for reply in replies if reply.failure}
    assert failed == dict.fromkeys(killing, "quarantined")
    assert Counter((_call_id(letter), letter.reason) for letter in letters) == dict.fromkeys(
        [(call, "worker_lost") for call in killing], 1
    )
    assert {len(letter.attempts) for letter in letters} == {ATTEMPTS}
    # One that shared its worker with another killer may have been lost before it began.
    assert all(1 <= times <= ATTEMPTS for call, times in starts_in(runs).items() if call in killing)


def _call_id(letter: DeadLetter) -> str:
    return letter.fields[letter.fields.index(b"id") + 1].decode()


async def _none_left(plane: Plane) -> bool:
    return await plane.left() == 0
