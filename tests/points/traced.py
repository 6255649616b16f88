"""Loaded by a worker, it has it make spans, which go nowhere."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from toolspan import tool

trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))


@tool
async def traced() -> None:
    """Do nothing: a module without tools cannot be loaded."""
