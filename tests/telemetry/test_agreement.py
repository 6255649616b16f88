"""After a run in which much goes wrong, Redis, metrics, spans and events tell the same story, number by number."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from tests.telemetry.agreement import Story, figures, steps_in, strays
from toolspan import ToolClient, ToolspanError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers
    from tests.telemetry.collector import Collector

HELD: Final = 4


@pytest.fixture
async def story(plane: Plane, workers: Workers, collector: Collector, tmp_path: Path) -> Story:
    release = tmp_path / "release"

    async def start(name: str) -> WorkerProcess:
        return await workers.start(
            "--log-level",
            "info",
            name=name,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_BSP_SCHEDULE_DELAY=20,
            OTEL_METRIC_EXPORT_INTERVAL=200,
        )

    async def hold(name: str) -> WorkerProcess:
        """Start a worker, and have it hold calls that do not end by themselves."""
        worker, runs = await start(name), tmp_path / f"runs-{name}"
        for number in range(HELD):
            await plane.append("until", f"{name}-{number}", path=str(runs), release=str(release))
        await plane.append("once", f"{name}-once", path=str(runs), seconds=60)
        await eventually(lambda: starts(runs) == HELD + 1, because="all of them run")
        return worker

    doomed = await hold("doomed")
    doomed.kill()
    frozen = await hold("frozen")
    frozen.signal(signal.SIGSTOP)
    survivor = await start("survivor")
    # Each of those that are lost runs here now, and those that may not run twice are dead letters.
    await eventually(lambda: _letters(plane, 2), because="what may not run twice is a dead letter", within=60)
    for name in ("doomed", "frozen"):
        await eventually(lambda name=name: starts(tmp_path / f"runs-{name}") == 2 * HELD + 1, because="they run again")  # type: ignore[misc]
    frozen.signal(signal.SIGCONT)
    release.touch()
    outcomes = await _call_all_kinds(plane, tmp_path)
    await eventually(lambda: _nothing_left(plane), because="all has its end", within=60)
    for worker in (frozen, survivor):
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    return Story(
        await plane.replies(),
        await steps_in(plane),
        Counter((letter.reason, letter.error_type) for letter in await plane.dead_letters()),
        outcomes,
        collector,
        plane.keys.calls,
        unanswerable=Counter({"malformed": 1}),
    )


async def _call_all_kinds(plane: Plane, folder: Path) -> dict[str, str]:
    """Make calls that succeed, fail, are tried again, are malformed and are unknown; give the outcome of ours by id."""
    await plane.add("no", "call")
    await plane.add("v", "1", "id", "bad", "tool", "echo", "args", "[]", "reply_to", plane.reply_to)
    for number in range(3):
        await plane.append("fails", f"silent-{number}", reply=False)
        await plane.append("fails", f"loud-{number}")
        await plane.append("flaky", f"flaky-{number}", path=str(folder / f"flaky-{number}"), good_from=3)
    await plane.append("nobody.serves.this", "unknown")
    async with ToolClient(plane.settings) as client:
        answers = await asyncio.gather(
            *(client.call("echo", {"text": "a"}) for _ in range(20)),
            *(client.call("fails") for _ in range(3)),
            client.call("hangs"),
            client.call("again", {"path": str(folder / "again"), "good_from": 2}),
            return_exceptions=True,
        )
    assert not [one for one in answers if isinstance(one, BaseException) and not isinstance(one, ToolspanError)]
    return {str(number): getattr(one, "type", "ok") for number, one in enumerate(answers)}


async def _letters(plane: Plane, count: int) -> bool:
    return len(await plane.dead_letters()) == count


async def _nothing_left(plane: Plane) -> bool:
    return await plane.left() == 0


async def test_redis_metrics_spans_and_events_agree(story: Story, plane: Plane) -> None:
    assert [one for one in figures(story) if not one.agrees] == []
    assert strays(story) == []
    _what_was_done_is_told(story)
    _dead_letters_agree(story, await plane.redis.execute_command("XRANGE", plane.keys.dead_letters, "-", "+"))


def _what_was_done_is_told(story: Story) -> None:
    processes = story.processes()
    lost = [one for one in processes if one["toolspan.outcome"] == "lost"]
    tools = [span for _, span in story.collector.every_span() if span.name.startswith("execute_tool ")]

    assert story.step("reclaimed").total() == 2 * (HELD + 1)
    assert story.step("retried") == {"tool_error": 3 * 2 + 1}
    assert len(story.told("toolspan.stale_result") + story.told("toolspan.lease.lost")) == HELD + 1
    assert story.letters.total() == 2 + 3 + 2
    assert story.counted("messaging.process.duration").total() == len(processes) - len(lost)
    assert story.counted("gen_ai.execute_tool.duration").total() == len(tools) - len(lost)
    assert story.counted("messaging.client.sent.messages", "messaging.operation.name") == {
        "send": len(story.replies) + len(story.calls)
    }


def _dead_letters_agree(story: Story, raw: Any) -> None:
    """Dead letters are told as they lie in Redis, field by field."""
    told = {one["toolspan.dead_letter.id"]: one for one in story.told("toolspan.dead_letter")}

    assert len(story.told("toolspan.dead_letter")) == len(told) == len(raw)
    for letter_id, fields in raw:
        there = {
            name.decode(): value.decode()
            for name, value in zip(fields[::2], fields[1::2], strict=True)
            if name.startswith(b"dlq.")
        }
        assert {name: value for name, value in told[letter_id.decode()].items() if name.startswith("dlq.")} == there
