"""A sampler that samples nothing loses no attempt that is out of the ordinary; and flags from outside are capped."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.telemetry.collector import plain
from tests.telemetry.orphans import lose
from toolspan.telemetry.propagation import capped, parse
from toolspan.telemetry.setup import start
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector

ALL = Registry.load(["tests.support.toolbox"])
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
UNSAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-00"
SAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")


@asynccontextmanager
async def _worker(plane: Plane) -> AsyncIterator[None]:
    quick = plane.settings.model_copy(update={"lease_ms": 200})
    telemetry = start("worker", keys=plane.keys, instance_id="w")
    async with running_worker(ALL, settings=quick, probe=telemetry.probe):
        yield
    await asyncio.to_thread(telemetry.shutdown)


def _processes(plane: Plane, collector: Collector) -> list[dict[str, Any]]:
    return [plain(span.attributes) for _, span in collector.spans(f"process {plane.keys.calls}")]


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED])
async def test_an_ordinary_call_is_sampled_like_any_other(plane: Plane, collector: Collector, traceparent: str) -> None:
    more = ("traceparent", traceparent) if traceparent else ()
    async with _worker(plane):
        await plane.add("v", "1", "id", "c", "tool", "echo", "args", "{}", "reply_to", plane.reply_to, *more)
        await eventually(lambda: plane.reply("c"), because="it is answered")

    assert collector.every_span() == []


async def test_whoever_asked_to_be_sampled_is(plane: Plane, collector: Collector) -> None:
    async with _worker(plane):
        await plane.add(
            "v", "1", "id", "c", "tool", "echo", "args", "{}", "reply_to", plane.reply_to, "traceparent", SAMPLED
        )
        await eventually(lambda: plane.reply("c"), because="it is answered")

    assert len(collector.every_span()) == 3


@pytest.mark.parametrize("limit", ["", "1000000"])
@pytest.mark.parametrize("traceparent", ["", UNSAMPLED])
async def test_attempts_that_fail_and_those_after_the_first_are_kept_with_all_below(  # noqa: PLR0917
    plane: Plane, collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, traceparent: str, limit: str
) -> None:
    """A limit on attributes is the SDK's to keep: its spans are decided on when they start, and a first one is lost."""
    if limit:
        monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", limit)
    more = ("traceparent", traceparent) if traceparent else ()
    args = f'{{"path": "{tmp_path / "runs"}", "good_from": 3}}'
    async with _worker(plane):
        await plane.add("v", "1", "id", "c", "tool", "flaky", "args", args, "reply_to", plane.reply_to, *more)
        await eventually(lambda: plane.reply("c"), because="it is answered")

    attempts = [2, 3] if limit else [1, 2, 3]
    assert [told["toolspan.attempt"] for told in _processes(plane, collector)] == attempts
    assert len(collector.spans("execute_tool flaky")) == len(attempts)
    assert len(collector.spans(f"send {plane.keys.prefix}:reply")) == 1
    if traceparent:
        assert {span.trace_id.hex() for _, span in collector.every_span()} == {TRACE_ID}


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED])
async def test_a_call_that_fails_at_once_is_kept_and_its_caller_is_told_so(
    plane: Plane, collector: Collector, traceparent: str
) -> None:
    more = ("traceparent", traceparent) if traceparent else ()
    async with _worker(plane):
        await plane.add("v", "1", "id", "c", "tool", "fails", "args", "{}", "reply_to", plane.reply_to, *more)
        reply = await eventually(lambda: plane.reply("c"), because="it is answered")
    [(_, process)] = collector.spans(f"process {plane.keys.calls}")
    [(_, execute)] = collector.spans("execute_tool fails")
    [(_, send)] = collector.spans(f"send {plane.keys.prefix}:reply")
    above = (TRACE_ID, UNSAMPLED[36:52]) if traceparent else (process.trace_id.hex(), "")

    # Whoever called is named as its parent, though that span was not sampled and is nowhere.
    assert (process.trace_id.hex(), process.parent_span_id.hex()) == above
    assert {span.parent_span_id for span in (execute, send)} == {process.span_id}
    assert reply.traceparent == f"00-{send.trace_id.hex()}-{send.span_id.hex()}-01"


async def test_what_is_no_error_of_the_worker_is_sampled_like_any_other(plane: Plane, collector: Collector) -> None:
    async with _worker(plane):
        await plane.add("v", "1", "id", "c", "tool", "echo", "args", "{}", "reply_to", plane.reply_to, "deadline", "1")
        reply = await eventually(lambda: plane.reply("c"), because="it is answered")

    assert reply.failure is not None
    assert reply.failure.type == "deadline_exceeded"
    assert collector.every_span() == []


async def test_lost_attempts_are_kept_with_what_took_their_place(plane: Plane, collector: Collector) -> None:
    await plane.add(
        "v", "1", "id", "c", "tool", "echo", "args", "{}", "reply_to", plane.reply_to, "traceparent", UNSAMPLED
    )
    await lose(plane, "dead-1")
    async with _worker(plane):
        await eventually(lambda: plane.reply("c"), because="it is answered")

    told = [(one["toolspan.attempt"], one["toolspan.outcome"]) for one in _processes(plane, collector)]
    assert sorted(told) == [(1, "lost"), (2, "ok")]


async def test_what_is_quarantined_without_being_begun_is_kept(plane: Plane, collector: Collector) -> None:
    await plane.append("echo", "poison")
    await lose(plane, "dead-1", attempts=4)
    await plane.add("no", "call")
    async with _worker(plane):
        await eventually(lambda: _letters(plane, 2), because="both are dead letters")

    told = [one["toolspan.outcome"] for one in _processes(plane, collector)]
    assert sorted(told) == ["lost", "malformed", "quarantined"]


async def _letters(plane: Plane, count: int) -> bool:
    return len(await plane.dead_letters()) == count


def test_a_ratio_caps_the_wish_to_be_sampled_and_nothing_else() -> None:
    assert capped(SAMPLED, 0) == UNSAMPLED
    assert capped(SAMPLED, 1) == SAMPLED
    assert capped(UNSAMPLED, 1) == UNSAMPLED
    # Other flags, and what later versions append, stay as they are.
    assert capped(f"01-{TRACE_ID}-b7ad6b7169203331-03-more", 0) == f"01-{TRACE_ID}-b7ad6b7169203331-02-more"
    assert capped("nonsense", 0) == "nonsense"


def test_a_ratio_lets_its_part_of_the_traces_through() -> None:
    traces = [f"00-{number * 0x9E3779B97F4A7C15 % 2**128:032x}-b7ad6b7169203331-01" for number in range(1, 1_001)]
    parents = [parse(capped(trace, 0.25)) for trace in traces]
    sampled = sum(parent is not None and parent.flags == 1 for parent in parents)

    assert 200 < sampled < 300
