"""What complete telemetry costs: all spans, metrics and records, as far as a collector that has decoded them."""

from __future__ import annotations

import json
import random
import urllib.request
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.backlog import CPU, HELD_BACK, RATE, WARM_UP, between, let_in, mark, reached, warm
from benchmarks.case import Case, Goal, Measure
from benchmarks.cases.drain import bursting
from benchmarks.contenders import REFERENCE, WIDE, python
from benchmarks.processes import Failure
from toolspan.codec import Codec, Limits
from toolspan.model import ToolCall, TraceFields

if TYPE_CHECKING:
    from benchmarks.case import Figures, Run, Scale
    from benchmarks.processes import Program
    from benchmarks.stage import Stage

TRACED: Final = "toolspan, traced"
_SAMPLED: Final = "toolspan, 10 % sampled"
SOME_SECONDS: Final = 300_000
"""So many calls take that long: the last batch leaves a tenth of a second after the last one."""

_SPANS_A_CALL: Final = 3
_FILL_AT_ONCE: Final = 1_000
_LOOK_SECONDS: Final = 0.02
_WARM: Final = 0.9
_VARIABLES: Final = {
    # Room for whatever waits while the collector is slower than the worker.
    "OTEL_BSP_MAX_QUEUE_SIZE": "1000000",
    # The last batch is part of the time: it leaves soon.
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "30",
}


def tracing(sampled: float, calls: int, *, quick: int) -> Run:
    """Make a run that drains *calls*, of which this part is to be recorded, until the last span is decoded."""

    def run(stage: Stage, scale: Scale) -> Figures:
        count = scale.of(calls, quick=quick)
        chosen = fill_traced(stage, count, sampled)
        sink, variables = with_sink(stage)
        endpoint = variables["OTEL_EXPORTER_OTLP_ENDPOINT"]
        worker = warm(stage, lambda stage: stage.start(WIDE.worker(), variables))
        # Those that warm it up have no trace of their own, and are all recorded.
        spans = (chosen + WARM_UP) * _SPANS_A_CALL
        let_in(stage)
        begun = reached(stage, worker, int(count * _WARM))
        settled = reached(stage, worker, 0)
        stage.until(
            lambda: _seen(endpoint)["spans"] >= spans, f"{spans} spans have come", sink, look_seconds=_LOOK_SECONDS
        )
        ended = replace(mark(stage, worker, 0), at=max(settled.at, _seen(endpoint)["last_span"]))
        worker.stop()
        _check(_seen(endpoint), count + WARM_UP, spans)
        return between(begun, ended)

    return run


def with_sink(stage: Stage) -> tuple[Program, dict[str, str]]:
    """Start somebody who decodes what is exported, and give the variables by which a worker exports to him."""
    sink = stage.start(python("benchmarks.sink"), hears=True)
    return sink, {**_VARIABLES, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.line()}"}


def fill_traced(stage: Stage, count: int, sampled: float) -> int:
    """Hold *count* calls back, each with a trace of its own, and tell how many of these are sampled."""
    codec, chance, chosen = Codec(stage.keys, Limits()), random.Random(7), 0  # noqa: S311
    for start in range(0, count, _FILL_AT_ONCE):
        pipeline = stage.look.pipeline(transaction=False)
        for number in range(start, min(start + _FILL_AT_ONCE, count)):
            flag = int(chance.random() < sampled)
            chosen += flag
            trace = TraceFields(f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-{flag:02x}")
            call = ToolCall(f"{number:032x}", "echo", {"n": 1}, reply_to=stage.keys.replies("bench"), trace=trace)
            fields: Any = codec.encode_call(call)
            pipeline.execute_command("XADD", HELD_BACK, "*", *fields)
        pipeline.execute()
    return chosen


def _seen(endpoint: str) -> dict[str, Any]:
    with urllib.request.urlopen(endpoint) as answer:  # noqa: S310 - our own
        counts: dict[str, Any] = json.load(answer)
        return counts


def _check(seen: dict[str, Any], count: int, spans: int) -> None:
    """Raise if the collector was told another story than what has happened."""
    sums = seen["sums"]
    told = (seen["spans"], sums.get("toolspan.calls"), sums.get("otel.sdk.exporter.span.exported"))
    if told != (spans, count, spans):
        message = f"spans, calls and exported spans were {told}, and not {(spans, count, spans)}"
        raise Failure(message)


def _goal(of: str, promise: str, at_least: float) -> Goal:
    return Goal(promise, Measure(of, "rate"), (Measure("reference", "rate"),), at_least=at_least)


CASE: Final = Case(
    "traced",
    "What does complete telemetry cost?",
    (RATE, CPU),
    {
        **{
            contender.name: bursting(contender, SOME_SECONDS, quick=10_000, hold=partial(fill_traced, sampled=1.0))
            for contender in (REFERENCE, WIDE)
        },
        TRACED: tracing(1.0, SOME_SECONDS, quick=10_000),
        _SAMPLED: tracing(0.1, SOME_SECONDS, quick=10_000),
        "toolspan, none sampled": tracing(0.0, SOME_SECONDS, quick=10_000),
    },
    (
        _goal(TRACED, "rate of calls that are all traced beside the bare loop without telemetry", 0.55),
        _goal(_SAMPLED, "rate of calls of which one in ten is sampled beside the bare loop", 0.8),
    ),
    note="All get the same calls, each with a trace of its own; where none is sampled, metrics and reading the trace "
    "are what is left. Everything goes over OTLP/HTTP to a process that decodes it. The time is over when it has "
    "decoded the last span, and at the end not one span, call or exported span may be missing in what it was "
    "told.",
)
