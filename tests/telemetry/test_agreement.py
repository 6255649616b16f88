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


async def test_redis_metrics_spans_and_events_agree(story: Story, plane: Plane) -> None:
    _calls_agree(story)
    _attempts_agree(story)
    _losses_agree(story)
    _dead_letters_agree(story, await plane.redis.execute_command("XRANGE", plane.keys.dead_letters, "-", "+"))
    _callers_agree(story)
    _spans_hang_together(story)


def _calls_agree(story: Story) -> None:
    """Each call ended once, and was answered or became a dead letter."""
    ours = Counter(story.calls.values())
    answered = Counter(reply.failure.type if reply.failure else "ok" for reply in story.replies)
    silent = Counter(letter.error_type for letter in story.letters if letter.reason == "tool_failed")
    unreadable = Counter({"malformed": 1})
    calls = story.counted("toolspan.calls", "toolspan.outcome")
    ends = [one for one in story.processes() if one["toolspan.outcome"] not in {"lost", "retried", "released"}]
    ended = {one["messaging.message.conversation_id"] for one in ends}

    assert calls == _keyed(answered + silent + unreadable + ours)
    assert len(ends) == len(ended) == calls.total()
    assert story.counted("messaging.client.sent.messages", "messaging.operation.name") == {
        ("send",): answered.total() + ours.total()
    }


def _attempts_agree(story: Story) -> None:
    """Each attempt is a span, counted once. What may not run twice ends without one: it has a span all the same."""
    processes = story.processes()
    lost = [one for one in processes if one["toolspan.outcome"] == "lost"]
    begun = [one for one in processes if one["toolspan.outcome"] != "outcome_unknown"]
    attempts = Counter((one["toolspan.delivery"], one["toolspan.outcome"]) for one in begun)
    tools = [span for _, span in story.collector.every_span() if span.name.startswith("execute_tool ")]
    retried = sum(count for (_, outcome), count in attempts.items() if outcome == "retried")

    assert story.counted("toolspan.attempts", "toolspan.delivery", "toolspan.outcome") == attempts
    assert story.counted("messaging.process.duration").total() == len(processes) - len(lost)
    assert story.counted("gen_ai.execute_tool.duration").total() == len(tools) - len(lost)
    assert retried == story.steps["retried", "tool_error"] == story.counted("toolspan.unparked").total() == 3 * 2 + 1


def _losses_agree(story: Story) -> None:
    """As many losses as Redis has seen claimed are told once and shown once; their own workers tell of none."""
    lost = [one["error.type"] for one in story.processes() if one["toolspan.outcome"] == "lost"]
    claimed = Counter(reason for step, reason in story.steps.elements() if step == "reclaimed")
    stale = story.told("toolspan.stale_result") + story.told("toolspan.lease.lost")

    assert claimed.total() == 2 * (HELD + 1)
    assert Counter(lost) == claimed
    assert story.counted("toolspan.reclaims", "toolspan.reason") == _keyed(claimed)
    for event in ("toolspan.reclaim", "toolspan.attempt.lost"):
        assert Counter(told["toolspan.reason"] for told in story.told(event)) == claimed, event
    assert story.counted("toolspan.stale_results").total() == len(stale) == HELD + 1


def _dead_letters_agree(story: Story, raw: Any) -> None:
    """Dead letters are told as they lie in Redis, field by field."""
    reasons = Counter(letter.reason for letter in story.letters)
    told = {one["toolspan.dead_letter.id"]: one for one in story.told("toolspan.dead_letter")}

    assert reasons == {"outcome_unknown": 2, "tool_failed": 3, "malformed": 2}
    assert story.counted("toolspan.dead_letters", "toolspan.reason") == _keyed(reasons)
    assert Counter(reason for step, reason in story.steps.elements() if step == "quarantined") == reasons
    assert len(story.told("toolspan.dead_letter")) == len(told) == len(raw)
    for letter_id, fields in raw:
        there = {
            name.decode(): value.decode()
            for name, value in zip(fields[::2], fields[1::2], strict=True)
            if name.startswith(b"dlq.")
        }
        assert {name: value for name, value in told[letter_id.decode()].items() if name.startswith("dlq.")} == there


def _callers_agree(story: Story) -> None:
    """What callers were told is what they count and show."""
    ours = Counter(story.calls.values())
    called = [plain(span.attributes) for _, span in story.collector.every_span() if span.name.startswith("call ")]

    assert story.counted("toolspan.call.duration", "toolspan.outcome", of="toolspan-gateway") == _keyed(ours)
    assert Counter(one.get("error.type", "ok") for one in called) == ours


def _spans_hang_together(story: Story) -> None:
    """No span came twice, each hangs below one that is there, and every link leads somewhere."""
    spans = [span for _, span in story.collector.every_span()]
    ids = Counter((span.trace_id, span.span_id) for span in spans)

    assert max(ids.values()) == 1
    for span in spans:
        assert not span.parent_span_id or (span.trace_id, span.parent_span_id) in ids, span.name
        assert span.start_time_unix_nano <= span.end_time_unix_nano, span.name
        for link in span.links:
            assert (link.trace_id, link.span_id) in ids, span.name


def _keyed(counts: Counter[str]) -> Counter[tuple[str, ...]]:
    return Counter({(name,): count for name, count in counts.items()})
