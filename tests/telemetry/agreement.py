"""What Redis, metrics, spans and events tell of a run, as figures that have to be the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.telemetry.collector import plain

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector
    from toolspan.model import Reply

Attributes = dict[str, Any]
Count = Counter[Any]

_PASSING = frozenset({"lost", "retried", "released"})
"""Outcomes of attempts that are not the end of their call."""


@dataclass(slots=True)
class Story:
    """What is known of a run once it is over: what lies in Redis, what callers were told, and what was exported."""

    replies: list[Reply]
    """Those of calls that were appended without our client."""
    steps: Count
    """The exceptional steps that lie in Redis, by name and reason."""
    letters: Count
    """The dead letters that there have been, by reason and error type."""
    calls: dict[str, str]
    """Call id and outcome of the calls of our client."""
    collector: Collector
    stream: str
    reaped: int = 0
    """Consumers that were killed and are gone from the group."""
    replayed: int = 0
    """Dead letters that operators have put back, as the audit stream has it."""
    unanswerable: Count = field(default_factory=Counter)
    """Calls that nobody could be answered for, by outcome: they cannot be read."""

    def counted(self, metric: str, *names: str, of: str = "toolspan-worker") -> Count:
        """What a metric of all processes of one kind came to, without zeros."""
        latest: dict[tuple[Any, ...], float] = {}
        for resource, value, attributes in self.collector.points(metric):
            if resource["service.name"] == of:
                latest[resource["service.instance.id"], *sorted(attributes.items())] = value
        total: Count = Counter()
        for (_, *pairs), value in latest.items():
            if value:
                found = tuple(str(dict(pairs).get(name, "")) for name in names)
                total[found[0] if len(found) == 1 else found] += int(value)
        return total

    def processes(self) -> list[Attributes]:
        """The attributes of the spans of all attempts, and of the ends without one."""
        return [plain(span.attributes) for _, span in self.collector.spans(f"process {self.stream}")]

    def told(self, event: str) -> list[Attributes]:
        """The attributes of the events of this name."""
        return [plain(record.attributes) for _, record in self.collector.records(event)]

    def reasons(self, event: str) -> Count:
        """How often the event was told, by reason."""
        return Counter(one["toolspan.reason"] for one in self.told(event))

    def step(self, name: str) -> Count:
        """How often Redis has noted this exceptional step, by reason."""
        return Counter({reason: count for (step, reason), count in self.steps.items() if step == name})


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure as each of them tells it; None where it is none of theirs."""

    name: str
    redis: Count | None
    counters: Count | None
    spans: Count | None
    events: Count | None

    @property
    def agrees(self) -> bool:
        """Whether all who tell it tell the same."""
        told = [one for one in (self.redis, self.counters, self.spans, self.events) if one is not None]
        return len(told) > 1 and all(one == told[0] for one in told)


async def steps_in(plane: Plane) -> Count:
    """Count the exceptional steps that lie in Redis, by name and reason."""
    found: Any = await plane.redis.execute_command("XRANGE", plane.keys.events, "-", "+")
    steps = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found]
    return Counter(
        (step[b"event"].decode(), step[b"reason"].decode()) for step in steps for _ in step[b"entry"].split(b" ")
    )


def figures(story: Story) -> list[Figure]:
    """Give every figure that more than one of them tells."""
    processes = story.processes()
    ends = [one for one in processes if one["toolspan.outcome"] not in _PASSING]
    begun = [one for one in processes if one["toolspan.outcome"] != "outcome_unknown"]
    lost = Counter(one["error.type"] for one in processes if one["toolspan.outcome"] == "lost")
    retried = Counter(one["error.type"] for one in processes if one["toolspan.outcome"] == "retried")
    answered = Counter(reply.failure.type if reply.failure else "ok" for reply in story.replies)
    silent = Counter({kind: count for (reason, kind), count in story.letters.items() if reason == "tool_failed"})
    ours = Counter(story.calls.values())
    letters: Count = Counter()
    for (reason, _), count in story.letters.items():
        letters[reason] += count
    stale = story.told("toolspan.stale_result") + story.told("toolspan.lease.lost")
    called = [plain(span.attributes) for _, span in story.collector.every_span() if span.name.startswith("call ")]
    put_back = [s for r, s in story.collector.spans(f"send {story.stream}") if r["service.name"] == "toolspan-operator"]
    return [
        Figure(
            "calls, by outcome",
            answered + silent + story.unanswerable + ours,
            story.counted("toolspan.calls", "toolspan.outcome"),
            Counter(one["toolspan.outcome"] for one in ends),
            None,
        ),
        Figure(
            "calls that ended, once each",
            None,
            Counter({"": story.counted("toolspan.calls").total()}),
            Counter({"": len({one["messaging.message.conversation_id"] for one in ends})}),
            None,
        ),
        Figure(
            "attempts, by delivery and outcome",
            None,
            story.counted("toolspan.attempts", "toolspan.delivery", "toolspan.outcome"),
            Counter((one["toolspan.delivery"], one["toolspan.outcome"]) for one in begun),
            None,
        ),
        Figure("retries", story.step("retried"), None, retried, None),
        Figure(
            "retries that were taken up",
            Counter({"": story.step("retried").total()}),
            Counter({"": story.counted("toolspan.unparked").total()}),
            None,
            None,
        ),
        Figure(
            "reclaims, by reason",
            story.step("reclaimed"),
            story.counted("toolspan.reclaims", "toolspan.reason"),
            lost,
            story.reasons("toolspan.reclaim"),
        ),
        Figure("lost attempts", story.step("reclaimed"), None, lost, story.reasons("toolspan.attempt.lost")),
        Figure(
            "reaps",
            Counter({"": story.reaped}),
            Counter({"": story.counted("toolspan.reaps").total()}),
            None,
            Counter({"": len(story.told("toolspan.reap"))}),
        ),
        Figure(
            "stale results",
            None,
            Counter({"": story.counted("toolspan.stale_results").total()}),
            None,
            Counter({"": len(stale)}),
        ),
        Figure(
            "dead letters, by reason",
            letters,
            story.counted("toolspan.dead_letters", "toolspan.reason"),
            None,
            Counter(one["dlq.reason"] for one in story.told("toolspan.dead_letter")),
        ),
        Figure("dead letters, as steps", letters, None, None, story.step("quarantined")),
        Figure(
            "replays",
            Counter({"": story.replayed}),
            Counter({"": story.counted("toolspan.replays", of="toolspan-operator").total()}),
            Counter({"": len(put_back)}),
            Counter({"": len(story.told("toolspan.replay"))}),
        ),
        Figure(
            "calls of callers, by outcome",
            ours,
            story.counted("toolspan.call.duration", "toolspan.outcome", of="toolspan-gateway"),
            Counter(one.get("error.type", "ok") for one in called),
            None,
        ),
    ]


def strays(story: Story) -> list[str]:
    """Name spans that came twice, hang below one that is not there, link to nowhere, or end before they start."""
    spans = [span for _, span in story.collector.every_span()]
    ids = Counter((span.trace_id, span.span_id) for span in spans)
    found = [f"{span.name}: came twice" for span in spans if ids[span.trace_id, span.span_id] > 1]
    for span in spans:
        if span.parent_span_id and (span.trace_id, span.parent_span_id) not in ids:
            found.append(f"{span.name}: its parent is missing")
        if span.start_time_unix_nano > span.end_time_unix_nano:
            found.append(f"{span.name}: ends before it starts")
        found += [f"{span.name}: links to nowhere" for link in span.links if (link.trace_id, link.span_id) not in ids]
    return found


def table(story: Story) -> Table:
    """Draw the figures side by side."""
    drawn = Table("figure", "", "Redis", "counters", "spans", "events", title="What each of them tells")
    for one in figures(story):
        told = [one.redis, one.counters, one.spans, one.events]
        kinds = sorted({kind for count in told if count is not None for kind in count}, key=str)
        for kind in kinds:
            name = kind if isinstance(kind, str) else ", ".join(kind)
            drawn.add_row(one.name, name, *("" if count is None else str(count[kind]) for count in told))
    return drawn


def show(story: Story) -> None:
    """Print the figures side by side."""
    Console(width=120).print(table(story))
