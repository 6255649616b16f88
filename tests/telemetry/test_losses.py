"""An attempt that lost its worker is told exactly once, whoever died meanwhile; and with how it had come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import SpanContext

from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.telemetry.orphans import lose
from tests.telemetry.trees import context, links, named
from toolspan.model import Attempt, Delivery, Failed, Run, ToolCall
from toolspan.store.scripts import compose
from toolspan.telemetry import attributes as at
from toolspan.testing import Recorder, running_worker

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.testing import EmbeddedServer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, PARENT_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
LOST = {"consumer": "first-1-0000", "attempt": 1, "start": 1_000, "end": 2_000, "error": "worker_lost"}
GIVEN_BACK = {"consumer": "second-1-0000", "attempt": 2, "start": 3_000, "end": 3_001, "error": "released"}
RETRIED = {"consumer": "first-1-0000", "attempt": 1, "start": 1_000, "end": 2_000, "error": "tool_error"}


async def _held_by_the_dead(plane: Plane, *history: dict[str, Any], attempt: int) -> None:
    """Have a call lie with a worker that died before it began the next attempt, or in it; then have it answered."""
    entry_id = await plane.append("echo", "c")
    await lose(plane, "third-1-0000", attempts=attempt)
    await plane.redis.execute_command("HSET", plane.keys.attempts, entry_id, json.dumps(history))


async def _answered(plane: Plane, settings: Settings, recorder: Recorder) -> None:
    quick = settings.model_copy(update={"lease_ms": 200})
    async with running_worker(toolbox.echo, settings=quick, probe=recorder.probe):
        await eventually(lambda: plane.reply("c"), because="it is answered")


def _lost(recorder: Recorder, plane: Plane) -> list[ReadableSpan]:
    found = named(recorder, f"process {plane.keys.calls}")
    return [span for span in found if (span.attributes or {})[at.OUTCOME] == "lost"]


def _attempts(recorder: Recorder) -> dict[tuple[str, str], float]:
    return {
        (attributes[at.DELIVERY], attributes[at.OUTCOME]): value
        for value, attributes in recorder.points("toolspan.attempts")
        if value
    }


def _told(recorder: Recorder, event: str) -> list[dict[str, Any]]:
    return [attributes for name, attributes in recorder.events if name == event]


async def test_what_a_worker_did_not_tell_that_died_between_its_claim_and_its_start_the_next_one_tells(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await _held_by_the_dead(plane, LOST, attempt=1)
    await _answered(plane, settings, recorder)
    [lost] = _lost(recorder, plane)

    assert (lost.attributes or {})["messaging.client.id"] == "first-1-0000"
    assert (lost.start_time, lost.end_time) == (1_000_000_000, 2_000_000_000)
    assert [told["messaging.client.id"] for told in _told(recorder, "toolspan.attempt.lost")] == ["first-1-0000"]
    assert [told["toolspan.owner"] for told in _told(recorder, "toolspan.reclaim")] == ["third-1-0000"]
    assert _attempts(recorder) == {("first", "lost"): 1, ("reclaim", "ok"): 1}


async def test_what_was_told_and_given_back_since_is_not_told_again(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await _held_by_the_dead(plane, LOST, GIVEN_BACK, attempt=1)
    await _answered(plane, settings, recorder)

    assert _lost(recorder, plane) == []
    assert _told(recorder, "toolspan.attempt.lost") == []
    assert len(_told(recorder, "toolspan.reclaim")) == 1
    assert _attempts(recorder) == {("reclaim", "ok"): 1}


async def test_a_retry_that_is_lost_is_counted_as_a_retry_and_links_to_the_attempt_before(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await _held_by_the_dead(plane, RETRIED, attempt=2)
    await _answered(plane, settings, recorder)
    [lost] = _lost(recorder, plane)

    assert _attempts(recorder) == {("retry", "lost"): 1, ("reclaim", "ok"): 1}
    assert (lost.attributes or {})[at.DELIVERY] == "retry"
    assert len(links(lost)) == 1
    assert {trace for trace, _ in links(lost)} == {context(lost).trace_id}


async def test_an_attempt_that_ended_otherwise_before_its_call_was_orphaned_has_no_second_span(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    # Its next attempt was due and taken, and whoever took it died before it was begun.
    await _held_by_the_dead(plane, RETRIED, attempt=1)
    await _answered(plane, settings, recorder)

    assert _lost(recorder, plane) == []
    assert _attempts(recorder) == {("reclaim", "ok"): 1}


async def test_a_lost_attempt_that_was_made_to_link_only_has_no_parent_either(plane: Plane, settings: Settings) -> None:
    recorder = Recorder(settings.keys, link_only=True)
    call = ("v", "1", "id", "c", "tool", "echo", "args", "{}", "reply_to", plane.reply_to)
    await plane.add(*call, "traceparent", PARENT)
    await lose(plane, "first-1-0000")
    await _answered(plane, settings, recorder)
    [lost] = _lost(recorder, plane)
    [_, process] = named(recorder, f"process {plane.keys.calls}")

    assert lost.parent is None
    assert context(lost).trace_id == context(process).trace_id != TRACE_ID
    assert links(lost) == {(TRACE_ID, PARENT_ID)}
    assert links(process) == {(TRACE_ID, PARENT_ID), (context(lost).trace_id, context(lost).span_id)}


async def test_the_loss_of_a_replay_is_that_of_a_replay(plane: Plane, settings: Settings, recorder: Recorder) -> None:
    more = ("replay_of", "1-1", "reply_to", plane.reply_to)
    await plane.add("v", "1", "id", "c", "tool", "echo", "args", "{}", *more)
    await lose(plane, "first-1-0000")
    await _answered(plane, settings, recorder)

    assert _attempts(recorder) == {("replay", "lost"): 1, ("reclaim", "ok"): 1}


@pytest.mark.parametrize("step", ["claim", "start"])
async def test_a_claim_whose_answer_was_lost_is_told_all_the_same(
    plane: Plane, server: EmbeddedServer, recorder: Recorder, step: str
) -> None:
    entry_id = await plane.append("echo", "c")
    suspect = step == "start"
    if suspect:
        # It is begun by a step of its own: any other orphan is begun by the claim.
        before = {"consumer": "dead-0", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}
        await plane.redis.execute_command("HSET", plane.keys.attempts, entry_id, json.dumps([before]))
    await lose(plane, "dead-1", attempts=1 + suspect)
    async with Proxy(server.port) as proxy:
        behind = plane.settings.model_copy(update={"redis_url": proxy.url, "lease_ms": 400})
        proxy.cut_after((await plane.redis.script_load(compose(step))).encode())
        async with running_worker(toolbox.echo, settings=behind, probe=recorder.probe):
            await eventually(lambda: plane.reply("c"), because="it is answered")
    [reclaim] = _told(recorder, "toolspan.reclaim")

    assert proxy.cuts == 1
    assert (reclaim["messaging.message.id"], reclaim["toolspan.owner"]) == (entry_id, "dead-1")
    assert recorder.total("toolspan.reclaims") == 1
    assert recorder.total("messaging.client.consumed.messages", messaging_operation_name="claim") == 1
    assert len(_lost(recorder, plane)) == 1
    assert _attempts(recorder) == {("reclaim" if suspect else "first", "lost"): 1, ("reclaim", "ok"): 1}


async def test_a_message_that_a_lost_answer_has_handed_over_is_counted_once(
    plane: Plane, server: EmbeddedServer, recorder: Recorder
) -> None:
    async with Proxy(server.port) as proxy:
        behind = plane.settings.model_copy(update={"redis_url": proxy.url})
        await plane.append("echo", "c")
        proxy.cut_after(b"BLOCK")
        async with running_worker(toolbox.echo, settings=behind, probe=recorder.probe):
            await eventually(lambda: plane.reply("c"), because="it is answered")

    consumed = {
        (attributes["messaging.operation.name"], attributes.get("error.type", "")): value
        for value, attributes in recorder.points("messaging.client.consumed.messages")
        if value
    }
    assert consumed == {("receive", ""): 1}


def _orphan(*, counted: bool) -> Run:
    history = [Attempt("first-1-0000", 1, 1_000, 2_000, "worker_lost")]
    origin, loss = "reclaim", "worker_lost"
    delivery = Delivery("1-0", [], 1 + counted, origin, 1, 0, 0, counted, 1, history, "first-1-0000", loss)  # type: ignore[arg-type]
    return Run(delivery, ToolCall("c", "echo", {}), "echo")


def test_an_end_that_was_refused_has_told_nothing_of_the_loss(plane: Plane, recorder: Recorder) -> None:
    del plane
    run = _orphan(counted=False)
    recorder.probe.began(run)
    recorder.probe.stale(run)

    assert recorder.spans == ()
    assert _told(recorder, "toolspan.attempt.lost") == []


def test_an_end_that_was_written_tells_of_it(plane: Plane, recorder: Recorder) -> None:
    run = _orphan(counted=False)
    failure = Failed("quarantined", "it was lost")
    recorder.probe.began(run)
    run.outcome = failure
    recorder.probe.dead_lettered(run, "2-0", reason="worker_lost", failure=failure, letter={}, replied=False)
    [lost] = _lost(recorder, plane)

    assert len(_told(recorder, "toolspan.attempt.lost")) == 1
    assert isinstance(lost.context, SpanContext)
    assert len(named(recorder, f"process {plane.keys.calls}")) == 2
