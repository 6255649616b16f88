"""After a run in which much goes wrong, Redis, metrics, spans and events tell the same story, number by number."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from tests.telemetry.collector import plain
from toolspan import ToolClient, ToolspanError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers
    from tests.telemetry.collector import Collector
    from toolspan.model import DeadLetter, Reply

Attributes = dict[str, Any]
HELD: Final = 4


@dataclass(slots=True)
class Story:
    """What is known of a run once it is over."""

    replies: list[Reply]
    letters: list[DeadLetter]
    steps: Counter[tuple[str, str]]
    """The exceptional steps that lie in Redis, by name and reason."""
    calls: dict[str, str]
    """Call id and outcome of the calls of our client."""
    collector: Collector
    stream: str

    def counted(self, metric: str, *names: str, of: str = "toolspan-worker") -> Counter[tuple[str, ...]]:
        """What a metric of all processes of one kind came to, without zeros."""
        latest: dict[tuple[Any, ...], float] = {}
        for resource, value, attributes in self.collector.points(metric):
            if resource["service.name"] == of:
                latest[resource["service.instance.id"], *sorted(attributes.items())] = value
        total: Counter[tuple[str, ...]] = Counter()
        for (_, *pairs), value in latest.items():
            if value:
                total[tuple(str(dict(pairs).get(name, "")) for name in names)] += int(value)
        return total

    def processes(self) -> list[Attributes]:
        """The attributes of the spans of all attempts, and of the ends without one."""
        return [plain(span.attributes) for _, span in self.collector.spans(f"process {self.stream}")]

    def told(self, event: str) -> list[Attributes]:
        """The attributes of the events of this name."""
        return [plain(record.attributes) for _, record in self.collector.records(event)]


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
    await eventually(lambda: _letters(plane, 2), because="what may not run twice is a dead letter", within=30)
    for name in ("doomed", "frozen"):
        await eventually(lambda name=name: starts(tmp_path / f"runs-{name}") == 2 * HELD + 1, because="they run again")  # type: ignore[misc]
    frozen.signal(signal.SIGCONT)
    release.touch()
    outcomes = await _call_all_kinds(plane, tmp_path)
    await eventually(lambda: _nothing_left(plane), because="all has its end", within=30)
    for worker in (frozen, survivor):
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    steps: Any = await plane.redis.execute_command("XRANGE", plane.keys.events, "-", "+")
    named = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in steps]
    return Story(
        await plane.replies(),
        await plane.dead_letters(),
        Counter((step[b"event"].decode(), step[b"reason"].decode()) for step in named),
        outcomes,
        collector,
        plane.keys.calls,
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


async def test_redis_metrics_spans_and_events_agree(story: Story) -> None:
    keys = ("toolspan.delivery", "toolspan.outcome")
    ours = Counter(story.calls.values())
    answered = Counter(reply.failure.type if reply.failure else "ok" for reply in story.replies)
    silent = Counter(letter.error_type for letter in story.letters if letter.reason == "tool_failed")
    unreadable = Counter({"malformed": 1})
    processes = story.processes()
    lost = [one for one in processes if one["toolspan.outcome"] == "lost"]
    # What may not run twice ends without having been begun again: it has a span, and is no attempt.
    ends = [one for one in processes if one["toolspan.outcome"] == "outcome_unknown"]
    attempts = Counter((one["toolspan.delivery"], one["toolspan.outcome"]) for one in processes if one not in ends)

    # Calls: each ended once, and was answered or became a dead letter.
    calls = story.counted("toolspan.calls", "toolspan.outcome")
    assert calls == _keyed(answered + silent + unreadable + ours)
    ended = [one["messaging.message.conversation_id"] for one in processes if one not in lost and not _goes_on(one)]
    assert len(ended) == len(set(ended)) == calls.total()
    assert story.counted("messaging.client.sent.messages", "messaging.operation.name") == {
        ("send",): answered.total() + ours.total()
    }

    # Attempts: each is a span, counted once.
    assert story.counted("toolspan.attempts", *keys) == attempts
    assert story.counted("messaging.process.duration").total() == len(processes) - len(lost)
    tools = [span for _, span in story.collector.every_span() if span.name.startswith("execute_tool ")]
    assert story.counted("gen_ai.execute_tool.duration").total() == len(tools) - len(lost)
    retried = sum(count for (_, outcome), count in attempts.items() if outcome == "retried")
    assert retried == story.steps["retried", "tool_error"] == story.counted("toolspan.unparked").total() == 3 * 2 + 1

    # Losses: as many as Redis has seen claimed, each told once and shown once, with both its spans.
    claimed = {loss: story.steps["reclaimed", loss] for loss in ("worker_lost", "lease_expired")}
    assert sum(claimed.values()) == len(lost) == 2 * (HELD + 1)
    assert story.counted("toolspan.reclaims", "toolspan.reason") == _keyed(+Counter(claimed))
    for event in ("toolspan.reclaim", "toolspan.attempt.lost"):
        assert Counter(told["toolspan.reason"] for told in story.told(event)) == +Counter(claimed), event
    assert Counter(one["error.type"] for one in lost) == +Counter(claimed)

    # Dead letters: as they lie in Redis, field by field.
    reasons = Counter(letter.reason for letter in story.letters)
    assert reasons == {"outcome_unknown": 2, "tool_failed": 3, "malformed": 2}
    assert story.counted("toolspan.dead_letters", "toolspan.reason") == _keyed(reasons)
    told_letters = {told["toolspan.dead_letter.id"]: told for told in story.told("toolspan.dead_letter")}
    assert len(story.told("toolspan.dead_letter")) == len(told_letters) == len(story.letters)
    assert Counter(reason for step, reason in story.steps.elements() if step == "quarantined") == reasons

    # What the frozen worker still held when it woke up was dropped, without a span.
    stale = story.told("toolspan.stale_result") + story.told("toolspan.lease.lost")
    assert story.counted("toolspan.stale_results").total() == len(stale) == HELD + 1

    # Callers: what they were told is what the workers counted.
    assert story.counted("toolspan.call.duration", "toolspan.outcome", of="toolspan-gateway") == _keyed(ours)
    called = [plain(span.attributes) for _, span in story.collector.every_span() if span.name.startswith("call ")]
    assert Counter(one.get("error.type", "ok") for one in called) == ours


async def test_every_dead_letter_is_told_with_the_very_fields_that_lie_in_redis(story: Story, plane: Plane) -> None:
    told = {one["toolspan.dead_letter.id"]: one for one in story.told("toolspan.dead_letter")}
    raw: Any = await plane.redis.execute_command("XRANGE", plane.keys.dead_letters, "-", "+")

    assert len(raw) == len(told)
    for letter_id, fields in raw:
        there = {
            name.decode(): value.decode()
            for name, value in zip(fields[::2], fields[1::2], strict=True)
            if name.startswith(b"dlq.")
        }
        assert {name: value for name, value in told[letter_id.decode()].items() if name.startswith("dlq.")} == there


async def test_no_span_came_twice_and_each_but_the_first_hangs_below_another(story: Story) -> None:
    spans = [span for _, span in story.collector.every_span()]
    ids = Counter((span.trace_id, span.span_id) for span in spans)
    roots = {span.name for span in spans if span.parent_span_id and (span.trace_id, span.parent_span_id) not in ids}

    assert {name for name, count in ids.items() if count > 1} == set()
    assert roots == set()
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    for span in spans:
        for link in span.links:
            assert (link.trace_id, link.span_id) in ids, span.name


def _goes_on(told: Attributes) -> bool:
    return told["toolspan.outcome"] in {"retried", "released"}


def _keyed(counts: Counter[str]) -> Counter[tuple[str, ...]]:
    return Counter({(name,): count for name, count in counts.items()})
