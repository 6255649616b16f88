"""What is around us: variables of the environment and of `.env`, and where telemetry goes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from toolspan.operate.doctor.findings import Finding, ok, problem, warn
from toolspan.settings import OtlpSettings, unknown_variables
from toolspan.telemetry.trial import SIGNALS, trial

if TYPE_CHECKING:
    from toolspan.settings import UnknownVariable
    from toolspan.telemetry.trial import Signal


def environment() -> list[Finding]:
    """Find variables that look like ours and that nothing reads."""
    strangers = unknown_variables()
    if not strangers:
        return [ok("variables", "every TOOLSPAN_ variable that is set is known")]
    return [_stranger(one) for one in strangers]


def _stranger(one: UnknownVariable) -> Finding:
    fix = f"did you mean {one.nearest}?" if one.nearest else "toolspan config lists those that are read"
    return warn("variables", f"nothing reads {one.variable}, which is set in {one.place}", fix)


async def exporter() -> list[Finding]:
    """Send an empty export for each signal that has somewhere to go."""
    otlp = OtlpSettings()
    signals = [signal for signal in SIGNALS if otlp.exports(signal)]
    if not signals:
        fix = "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318, or where a collector listens"
        return [warn("exporter", "no telemetry is exported", fix)]
    # Each waits in a thread of its own.
    return list(await asyncio.gather(*(_exported(otlp, signal) for signal in signals)))


async def _exported(otlp: OtlpSettings, signal: Signal) -> Finding:
    check = f"exporter of {signal}"
    reason = await asyncio.to_thread(trial, otlp, signal)
    if reason is None:
        return ok(check, f"an empty export of {signal} was accepted")
    variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    fix = f"is a collector running, and is OTEL_EXPORTER_OTLP_ENDPOINT, or {variable}, right?"
    return problem(check, f"an empty export of {signal} failed: {reason}", fix)
