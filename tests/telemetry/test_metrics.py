"""Each fact moves its counters by exactly one; gauges are what Redis shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.telemetry.orphans import lose
from toolspan import RedisUnavailable, ToolClient
from toolspan.errors import NotReplayableError
from toolspan.monitor.reporter import Reporter
from toolspan.operate.dead_letters import replay
from toolspan.store import Connection, DeadLetterStore, Inspector
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.testing import EmbeddedServer

ALL = Registry.load(["tests.support.toolbox"])


WHERE = ("messaging.destination.name", "messaging.destination.template")


def counted(recorder: Recorder, metric: str, *names: str) -> dict[tuple[Any, ...], float]:
    """What *metric* has counted so far: values of the attributes *names* to the count; nothing that is 0."""
    found: dict[tuple[Any, ...], float] = {}
    for value, attributes in recorder.points(metric):
        if value:
            key = tuple(attributes.get(name, "") for name in names)
            found[key] = found.get(key, 0) + value
    return found


def calls(recorder: Recorder) -> dict[tuple[Any, ...], float]:
    return counted(recorder, "toolspan.calls", "gen_ai.tool.name", "toolspan.outcome")


def attempts(recorder: Recorder) -> dict[tuple[Any, ...], float]:
    names = ("gen_ai.tool.name", "toolspan.delivery", "toolspan.outcome")
    return counted(recorder, "toolspan.attempts", *names)


def sent(recorder: Recorder) -> dict[tuple[Any, ...], float]:
    return counted(recorder, "messaging.client.sent.messages", *WHERE, "error.type")


async def test_a_call_that_succeeds_is_counted_once_everywhere(
    settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        await client.call("echo")
    stream, replies = settings.keys.calls, f"{settings.prefix}:reply"
    consumed = ("messaging.operation.name", *WHERE, "messaging.consumer.group.name", "error.type")
    operations = ("messaging.operation.name", "messaging.operation.type", *WHERE, "error.type")

    assert calls(recorder) == {("echo", "ok"): 1}
    assert attempts(recorder) == {("echo", "first", "ok"): 1}
    assert sent(recorder) == {(stream, "", ""): 1, ("", replies, ""): 1}
    assert counted(recorder, "messaging.client.consumed.messages", *consumed) == {
        ("receive", stream, "", settings.keys.group, ""): 1,
        ("receive", "", replies, "", ""): 1,
    }
    assert counted(recorder, "messaging.client.operation.duration", *operations) == {
        ("send", "send", stream, "", ""): 1,
        ("receive", "receive", stream, "", ""): 1,
        ("settle", "settle", stream, "", ""): 1,
        ("receive", "receive", "", replies, ""): 1,
    }
    process = ("messaging.destination.name", "messaging.consumer.group.name", "gen_ai.tool.name", "error.type")
    assert counted(recorder, "messaging.process.duration", *process) == {(stream, settings.keys.group, "echo", ""): 1}
    assert counted(recorder, "gen_ai.execute_tool.duration", "gen_ai.tool.name", "error.type") == {("echo", ""): 1}
    assert counted(recorder, "toolspan.call.duration", "gen_ai.tool.name", "toolspan.outcome") == {("echo", "ok"): 1}
    assert counted(recorder, "toolspan.phase.duration", "toolspan.phase", "gen_ai.tool.name") == {
        ("queue", "echo"): 1,
        ("admission", ""): 1,
        ("settle", ""): 1,
    }
    for metric in ("reclaims", "unparked", "reaps", "stale_results", "lost", "dead_letters", "redis.errors"):
        assert recorder.total(f"toolspan.{metric}") == 0, metric


async def test_each_attempt_is_counted_once_and_the_call_at_its_end(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await plane.append("again", path=str(tmp_path / "runs"), good_from=3)
        await plane.append("fails", "refused")
        await plane.append("a-name-nobody-may-count-by", "unknown")
        await plane.add("no", "call")
        await plane.append("fails", "silent", reply=False)
        await eventually(lambda: plane.reply("again"), because="the third attempt answers")
        await eventually(lambda: plane.reply("refused"), because="the failure is answered")
        await eventually(lambda: plane.reply("unknown"), because="the unknown tool is answered")
        await eventually(lambda: _letters(plane, 2), because="the silent failure and the malformed entry are kept")

    assert calls(recorder) == {
        ("again", "ok"): 1,
        ("fails", "tool_error"): 2,
        ("_other", "malformed"): 1,
        ("_other", "unknown_tool"): 1,
    }
    assert attempts(recorder) == {
        ("again", "first", "retried"): 1,
        ("again", "retry", "retried"): 1,
        ("again", "retry", "ok"): 1,
        ("fails", "first", "tool_error"): 2,
        ("_other", "first", "malformed"): 1,
        ("_other", "first", "unknown_tool"): 1,
    }
    assert counted(recorder, "toolspan.unparked", "gen_ai.tool.name") == {("again",): 2}
    assert counted(recorder, "toolspan.dead_letters", "gen_ai.tool.name", "toolspan.reason") == {
        ("fails", "tool_failed"): 1,
        ("_other", "malformed"): 1,
    }
    assert sent(recorder) == {("", f"{settings.prefix}:reply", ""): 3}


async def test_an_orphan_is_counted_as_one_lost_attempt_and_one_reclaim(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.append("echo", "orphan")
    await lose(plane, "dead-1")
    async with running_worker(toolbox.echo, settings=_quick(settings), probe=recorder.probe):
        await eventually(lambda: plane.reply("orphan"), because="it is run again")

    assert counted(recorder, "toolspan.reclaims", "gen_ai.tool.name", "toolspan.reason") == {("echo", "worker_lost"): 1}
    assert attempts(recorder) == {("echo", "first", "lost"): 1, ("echo", "reclaim", "ok"): 1}
    assert calls(recorder) == {("echo", "ok"): 1}
    assert recorder.total("messaging.client.consumed.messages", messaging_operation_name="claim") == 1


async def test_poison_is_counted_as_one_dead_letter_and_one_reply(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.append("echo", "poison")
    await lose(plane, "dead-1", attempts=4)
    async with running_worker(toolbox.echo, settings=_quick(settings), probe=recorder.probe):
        await eventually(lambda: plane.reply("poison"), because="its caller is told")

    assert calls(recorder) == {("echo", "quarantined"): 1}
    assert sum(attempts(recorder).values()) == 1
    assert counted(recorder, "toolspan.dead_letters", "gen_ai.tool.name", "toolspan.reason") == {
        ("echo", "worker_lost"): 1
    }
    assert sent(recorder) == {("", f"{settings.prefix}:reply", ""): 1}


async def test_a_consumer_that_is_reaped_is_counted_once(plane: Plane, settings: Settings, recorder: Recorder) -> None:
    """The one that holds parked calls goes like any other once it is empty, but was no worker that has died."""
    quick = _quick(settings).model_copy(update={"reap_after_ms": 400})
    await plane.append("echo", "before")
    await lose(plane, "dead-1")
    await plane.redis.xgroup_createconsumer(plane.keys.calls, plane.keys.group, "~parked")
    async with running_worker(toolbox.echo, settings=quick, probe=recorder.probe):
        await eventually(lambda: plane.reply("before"), because="it holds nothing then")
        await eventually(lambda: _gone(plane, "dead-1", "~parked"), because="both are reaped")

    assert recorder.total("toolspan.reaps") == 1


async def _gone(plane: Plane, *names: str) -> bool:
    return not {*names} & {*await plane.consumers()}


async def test_a_result_that_comes_too_late_is_counted_as_stale_once(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        entry = await plane.append("until", path=str(runs), release=str(release))
        await eventually(runs.exists, because="the tool runs")
        await plane.redis.execute_command(
            "XCLAIM", plane.keys.calls, plane.keys.group, "thief", 0, entry, "JUSTID", parse_justid=True
        )
        release.touch()
        await eventually(lambda: recorder.total("toolspan.stale_results"), because="its result is refused")

    assert counted(recorder, "toolspan.stale_results", "gen_ai.tool.name") == {("until",): 1}
    assert calls(recorder) == {}
    assert await plane.replies() == []


async def test_a_call_whose_body_was_deleted_is_counted_as_lost_once(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    entry = await plane.append("echo", "gone")
    await lose(plane, "dead-1")
    await plane.redis.xdel(plane.keys.calls, entry)
    async with running_worker(toolbox.echo, settings=_quick(settings), probe=recorder.probe):
        await eventually(lambda: recorder.total("toolspan.lost"), because="it is found")

    assert counted(recorder, "toolspan.lost", "toolspan.reason") == {("deleted",): 1}
    assert await plane.pending() == {}


async def test_replays_are_counted_by_whether_they_were_refused(
    plane: Plane, settings: Settings, recorder: Recorder, connection: Connection
) -> None:
    await plane.append("fails", reply=False)
    async with running_worker(toolbox.fails, settings=settings):
        letter = (await eventually(plane.dead_letters, because="it is kept"))[0]
    store = DeadLetterStore(connection, settings.keys)
    await replay(store, letter, recorder.probe, codec=plane.codec, who="tester")
    with pytest.raises(NotReplayableError, match="gone"):
        await replay(store, letter, recorder.probe, codec=plane.codec, who="tester")

    assert counted(recorder, "toolspan.replays", "toolspan.outcome") == {("replayed",): 1, ("refused",): 1}
    assert [name for name, _ in recorder.events] == ["toolspan.replay"]


async def test_one_command_that_redis_fails_is_one_error_and_one_outage(
    plane: Plane, server: EmbeddedServer, recorder: Recorder
) -> None:
    async with Proxy(server.port) as proxy:
        behind = plane.settings.model_copy(update={"redis_url": proxy.url})
        async with running_worker(toolbox.echo, settings=behind, probe=recorder.probe):
            proxy.cut_before(b"XREADGROUP")
            await eventually(lambda: "toolspan.redis.up" in _events(recorder), because="it recovers")

    assert counted(recorder, "toolspan.redis.errors", "error.type", "toolspan.role") == {
        ("StoreUnavailableError", "read"): 1
    }
    assert [name for name in _events(recorder) if "redis" in name] == ["toolspan.redis.down", "toolspan.redis.up"]


async def test_a_call_that_cannot_be_sent_is_counted_with_its_error(recorder: Recorder, settings: Settings) -> None:
    async with ToolClient(settings, url="unix:///nowhere/at/all.sock", probe=recorder.probe) as client:
        with pytest.raises(RedisUnavailable):
            await client.call("echo", timeout=1)

    assert sent(recorder) == {(settings.keys.calls, "", "RedisUnavailable"): 1}
    assert counted(recorder, "toolspan.call.duration", "gen_ai.tool.name", "toolspan.outcome") == {
        ("_other", "refused"): 1
    }


async def test_gauges_of_a_worker_say_how_full_it_is(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    few = settings.model_copy(update={"concurrency": 3})
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(ALL, settings=few, probe=recorder.probe):
        for number in range(2):
            await plane.append("until", f"c{number}", path=str(runs), release=str(release))
        await eventually(lambda: recorder.total("toolspan.inflight") == 2, because="it holds two calls")

        assert recorder.total("toolspan.room") == 1
        assert recorder.points("toolspan.abandoned") == [(0, {})]
        release.touch()
        await eventually(lambda: recorder.total("toolspan.room") == 3, because="they end")


async def test_gauges_of_the_group_are_what_redis_shows(
    plane: Plane, settings: Settings, recorder: Recorder, connection: Connection
) -> None:
    keys = plane.keys
    for _ in range(3):
        await plane.append("echo", reply=False)
    await lose(plane, "dead-1")
    parked, *_ = await plane.pending()
    await plane.redis.execute_command(
        "XCLAIM", keys.calls, keys.group, "~parked", 0, parked, "JUSTID", parse_justid=True
    )
    await plane.redis.zadd(keys.parked, {parked: 1})
    oldest = await plane.append("echo", reply=False)
    await plane.append("echo", reply=False)
    letter: Any = await plane.redis.xadd(keys.dead_letters, {"on": "purpose"})
    await plane.redis.zadd(keys.workers, {"silent-1": 1})
    reporter = Reporter(Inspector(connection, keys), recorder.probe, me="me", lease_ms=settings.lease_ms)
    await reporter.sweep()
    now_ms = int((await plane.redis.time())[0]) * 1000

    here = {"messaging.destination.name": keys.calls, "messaging.consumer.group.name": keys.group}
    for name, value in {"length": 5, "undelivered": 2, "pending": 2, "parked": 1}.items():
        assert recorder.points(f"toolspan.group.{name}") == [(value, here)], name
    assert recorder.points("toolspan.dlq.length") == [(1, {})]
    assert recorder.total("toolspan.workers", toolspan_state="silent") == 1
    assert recorder.total("toolspan.workers", toolspan_state="live") == 0
    assert recorder.total("toolspan.group.consumers") == len(await plane.consumers())
    for name, entry in (("group.oldest_undelivered.age", oldest), ("dlq.oldest.age", letter.decode())):
        age = (now_ms - int(entry.partition("-")[0])) / 1000
        assert recorder.points(f"toolspan.{name}")[0][0] == pytest.approx(age, abs=2), name


async def test_what_cannot_be_known_has_no_gauge(plane: Plane, recorder: Recorder, connection: Connection) -> None:
    one = Reporter(Inspector(connection, plane.keys), recorder.probe, me="one", lease_ms=1_000)
    await one.sweep()
    without_group = recorder.points("toolspan.group.length")
    await plane.append("echo", reply=False)
    await lose(plane, "dead-1")
    await one.sweep()
    other = Recorder(plane.keys)
    await Reporter(Inspector(connection, plane.keys), other.probe, me="other", lease_ms=1_000).sweep()

    assert without_group == []
    assert recorder.total("toolspan.group.length") == 1
    # Nobody waits undelivered, and there are no dead letters.
    assert recorder.points("toolspan.group.oldest_undelivered.age") == []
    assert recorder.points("toolspan.dlq.oldest.age") == []
    # Only one process reports, whoever else is there.
    assert other.points("toolspan.group.length") == []


def _events(recorder: Recorder) -> list[str]:
    return [name for name, _ in recorder.events]


def _quick(settings: Settings) -> Settings:
    """With a lease so short that an orphan is soon taken over."""
    return settings.model_copy(update={"lease_ms": 200})


async def _letters(plane: Plane, count: int) -> bool:
    return len(await plane.dead_letters()) == count
