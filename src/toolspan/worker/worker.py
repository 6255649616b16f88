"""A worker that serves tools: the engine, with a processor that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.worker.engine import Engine, consumer_name
from toolspan.worker.executor import Executor
from toolspan.worker.processor import Processor
from toolspan.worker.threads import Threads

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.telemetry.probe import Probe
    from toolspan.tools.registry import Registry
    from toolspan.worker.inflight import Process
    from toolspan.worker.roles import Parts
    from toolspan.worker.vitals import Vitals


class Worker:
    """Serves the tools of *registry* until it is stopped."""

    def __init__(
        self,
        connection: Connection,
        registry: Registry,
        settings: Settings,
        probe: Probe,
        *,
        me: str | None = None,
        vitals: Vitals | None = None,
    ) -> None:
        registry.check(settings.max_attempts)
        self._registry = registry
        self._settings = settings
        self._probe = probe
        self._threads = Threads(settings.concurrency)
        self._engine = Engine(
            connection,
            settings,
            probe,
            self._processor,
            me=me or consumer_name(),
            tools={tool.digest: tool.info for tool in registry.tools},
            abandoned=lambda: self._threads.abandoned,
            vitals=vitals,
        )
        self.consumer = self._engine.consumer
        self.ready = self._engine.ready
        self.stop = self._engine.stop

    async def run(self) -> bool:
        """Work until stopped; see `Engine.run`. The tools' lifespans are around it."""
        async with self._registry.lifespan():
            return await self._engine.run()

    def _processor(self, parts: Parts) -> Process:
        settings = self._settings
        executor = Executor(
            self._threads,
            self._probe,
            parts.clock,
            parts.progress,
            limits=parts.codec.limits,
            timeout=settings.tool_timeout_seconds,
            admission=settings.lease_ms / 2000,
        )
        return Processor(
            codec=parts.codec,
            registry=self._registry,
            executor=executor,
            completer=parts.completer,
            admission=parts.admission,
            neighbours=parts.neighbours,
            cancellations=parts.cancellations,
            controls=parts.controls,
            clock=parts.clock,
            probe=self._probe,
            max_attempts=settings.max_attempts,
        )
