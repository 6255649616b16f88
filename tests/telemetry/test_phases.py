"""Phases are the same wherever they are told: on the span, in the histograms, and in the reply."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.telemetry.trees import one
from toolspan import tool
from toolspan.telemetry import attributes as at
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from toolspan import Settings, ToolClient
    from toolspan.testing import Recorder


@tool
def takes_a_while() -> None:
    """Take a while."""
    time.sleep(0.02)


async def test_span_histogram_and_reply_say_the_same_of_every_phase(
    settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    async with running_worker(takes_a_while, settings=settings, probe=recorder.probe):
        reply = await client.call("takes_a_while")
    on_span = one(recorder, f"process {settings.keys.calls}").attributes or {}
    execute = one(recorder, "execute_tool takes_a_while")
    in_histograms = {
        **{attributes[at.PHASE]: value for value, attributes in recorder.sums("toolspan.phase.duration")},
        "execute": recorder.sums("gen_ai.execute_tool.duration")[0][0],
    }
    in_reply = {name: getattr(reply.timings, name) for name in at.PHASES}

    assert in_histograms.keys() == in_reply.keys() == set(at.PHASES)
    for name in at.PHASES:
        assert on_span[f"toolspan.phase.{name}"] == pytest.approx(in_reply[name], abs=1), name
        assert in_histograms[name] * 1000 == pytest.approx(in_reply[name], abs=1), name
    assert in_reply["execute"] >= 20
    # And the span of the tool lasts as long as its phase.
    length_ms = ((execute.end_time or 0) - (execute.start_time or 0)) / 1e6
    assert length_ms == pytest.approx(in_reply["execute"], abs=1)
