"""The spans of an attempt whose worker was lost, ended in its name: it cannot do so any more."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from toolspan.model import Lost
from toolspan.telemetry import attributes as at
from toolspan.telemetry.ids import span_id_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from toolspan.model import Attempt, Delivery, LossReason, Origin

_MS: Final = 1_000_000
_REMEMBERED: Final = 1_000
"""Lost workers of which we remember what they were."""

_OF_THE_FLEET: Final = (
    "service.name",
    "service.namespace",
    "service.version",
    "deployment.environment",
    "deployment.environment.name",
    at.STREAM,
)
"""What of our own resource is true of another worker as well: not where it runs."""


class Ghosts:
    """Ends the spans of lost attempts under the ids that these had, by handing them to *ended*."""

    def __init__(
        self, ended: SpanProcessor | None, resource: Resource | None, *, calls: str, group: str, link_only: bool
    ) -> None:
        self._ended = ended
        self._ours = (resource or Resource({})).attributes
        self._calls = calls
        self._group = group
        self._link_only = link_only
        self._known: OrderedDict[str, Lost] = OrderedDict()
        self._exporting = False

    def know(self, lost: Lost) -> None:
        """Remember what is on record of a worker that was lost."""
        self._known[lost.consumer] = lost
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def knows(self, consumer: str) -> bool:
        """Whether we were told of that worker; no other will ever have its name."""
        return consumer in self._known

    def end(
        self,
        delivery: Delivery,
        lost: Attempt,
        loss: LossReason,
        *,
        origin: Origin,
        span: SpanContext,
        before: SpanContext | None,
        producer: SpanContext | None,
        call_id: str,
        common: dict[str, Any],
        scope: InstrumentationScope | None,
    ) -> None:
        """End `process`, which is *span*, and `execute_tool` of the attempt *lost*; *before* is that before it."""
        if self._ended is None or lost.end_ms is None:
            return
        attributes = {**common, at.ERROR_TYPE: loss}
        process = {
            **attributes,
            at.DESTINATION: self._calls,
            at.OPERATION_NAME: "process",
            at.OPERATION_TYPE: "process",
            at.GROUP: self._group,
            at.CLIENT_ID: lost.consumer,
            at.BODY_SIZE: sum(map(len, delivery.fields)),
            at.ATTEMPT: lost.attempt,
            at.DELIVERY: origin,
            at.OUTCOME: "lost",
        }
        tool_id = span_id_of(delivery, call_id, lost.consumer, attempt=lost.attempt, role="execute_tool")
        tool = SpanContext(span.trace_id, tool_id, is_remote=False, trace_flags=span.trace_flags)
        parent = None if self._link_only else producer
        meaning = "was lost" if loss == "worker_lost" else "let its lease expire"
        ended = partial(
            ReadableSpan,
            resource=self._resource(lost.consumer),
            status=Status(StatusCode.ERROR, f"{lost.consumer} {meaning}"),
            start_time=lost.start_ms * _MS,
            end_time=max(lost.start_ms, lost.end_ms) * _MS,
            instrumentation_scope=scope,
        )
        links = [Link(one) for one in (producer, before) if one is not None]
        tool_name = f"execute_tool {common[at.TOOL_NAME]}"
        tool_attributes = {**attributes, at.GEN_AI_OPERATION: "execute_tool"}
        for ghost in (
            ended(f"process {self._calls}", span, parent, attributes=process, links=links, kind=SpanKind.CONSUMER),
            ended(tool_name, tool, span, attributes=tool_attributes, kind=SpanKind.INTERNAL),
        ):
            self._ended.on_end(ghost)
        self._export_soon(self._ended)

    def _export_soon(self, ended: SpanProcessor) -> None:
        """Have them exported beside the run that follows: what killed one worker may be about to kill this one."""
        if not self._exporting:
            self._exporting = True
            threading.Thread(target=self._export, args=(ended,), name="ghosts", daemon=True).start()

    def _export(self, ended: SpanProcessor) -> None:
        try:
            ended.force_flush()
        finally:
            self._exporting = False

    def _resource(self, consumer: str) -> Resource:
        """Give the resource of the worker that was lost, as far as it is known."""
        shared = {name: value for name, value in self._ours.items() if name in _OF_THE_FLEET or name.startswith(_SDK)}
        lost = self._known.get(consumer, Lost(consumer))
        said: dict[str, str | int | None] = {
            "service.instance.id": consumer,
            "service.version": lost.version,
            "host.name": lost.host,
            "process.pid": int(lost.pid) if lost.pid and lost.pid.isdecimal() else None,
        }
        return Resource({**shared, **{name: value for name, value in said.items() if value is not None}})


_SDK: Final = "telemetry.sdk."
