"""dlq purge, and the retention period: old dead letters go."""

from __future__ import annotations

import signal
import time
from getpass import getuser
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import ended
from tests.cli.letters import add, audit, bury, fill, ids
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from tests.cli.commands import Shell
    from tests.support.plane import Plane

DAY_MS = 86_400_000


def _days_ago(days: float) -> int:
    return time.time_ns() // 1_000_000 - int(days * DAY_MS)


async def test_what_is_older_is_purged_readable_or_not_and_what_is_younger_stays(plane: Plane, shell: Shell) -> None:
    await bury(plane, letter_id="1-1")
    await add(plane, "somebody", "else's", letter_id="1-2")
    last = await bury(plane, letter_id=f"{_days_ago(30.01)}-7")
    kept = [await bury(plane, letter_id=f"{_days_ago(29.99)}-0"), await bury(plane)]
    dry = await shell.run(*["dlq", "purge", "--older-than", "30d", "--why", "old", "--dry-run"])
    untouched = await plane.redis.xlen(plane.keys.dead_letters)
    done = await shell.run(*["dlq", "purge", "--older-than", "30d", "--why", "old"])

    assert (dry.code, dry.out) == (0, f"3 dead letters would be purged, up to {last}\n")
    assert untouched == 5
    assert (done.code, done.out, done.err) == (0, f"3 dead letters purged, up to {last}\n", "")
    assert await ids(plane) == kept
    [written] = await audit(plane)
    assert int(written.pop("at")) > 0
    assert written == {
        "action": "purge", "who": getuser(), "why": "old", "count": "3", "up_to": last,
        "matching": "older_than=2592000s",
    }  # fmt: skip


@pytest.mark.parametrize("older_than", ["1d", "36500d"])
async def test_nothing_old_is_nothing_purged(plane: Plane, shell: Shell, older_than: str) -> None:
    kept = await bury(plane)
    command = f"dlq purge --older-than {older_than} --why old"
    done, told = (await shell.each(command, f"{command} --json")).values()

    assert (done.code, done.out) == (0, "0 dead letters purged\n")
    assert (told.code, told.json) == (0, {"purged": 0, "up_to": None})
    assert (await ids(plane), await audit(plane)) == ([kept], [])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_purge_that_is_stopped_is_written_down_as_far_as_it_came(
    plane: Plane, shell: Shell, number: signal.Signals
) -> None:
    await fill(plane, 100_000, letter_id="5")
    command = ["dlq", "purge", "--older-than", "1h", "--why", "old", "--json"]
    async with shell.started(*command) as process:
        await eventually(lambda: _fewer_than(plane, 100_000), because="it has begun", within=60)
        process.send_signal(number)
        done = await ended(process)
    left = await plane.redis.xlen(plane.keys.dead_letters)
    first = await audit(plane)
    rest = await shell.run(*command)

    assert (done.code, 0 < left < 100_000) == (-9 if number == signal.SIGKILL else 1, True)
    assert [int(one["count"]) for one in first] == [100_000 - left]
    assert (rest.code, rest.json) == (0, {"purged": left, "up_to": "5-100000"})
    assert [int(one["count"]) for one in await audit(plane)] == [100_000 - left, left]


async def test_a_monitor_purges_what_is_past_the_retention_period(plane: Plane, shell: Shell) -> None:
    await bury(plane, letter_id=f"{_days_ago(3)}-0")
    kept = await bury(plane, letter_id=f"{_days_ago(1)}-0")
    async with shell.started("monitor", TOOLSPAN_DLQ_RETENTION_DAYS="2"):
        await eventually(lambda: audit(plane), because="it has purged")

    assert await ids(plane) == [kept]
    [written] = await audit(plane)
    assert (written["action"], written["who"], written["count"]) == ("purge", "retention", "1")


async def _fewer_than(plane: Plane, count: int) -> bool:
    return 0 < int(await plane.redis.xlen(plane.keys.dead_letters)) < count
