"""What is kept of an ordinary call while it runs; and the span that its tool finds, which is the same object.

As long as the tool does not touch it, nothing is made of it. If it does, a span of the SDK takes over, with all that
belongs to one: events, links, limits.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AttributeValue

    from toolspan.model import Run


class Maker(Protocol):
    """Who makes what a record cannot be itself."""

    resource: Resource

    def ids(self, run: Run) -> tuple[bytes, bytes, bytes]:
        """Derive the ids of `process`, `execute_tool` and `send` of the reply."""

    def tool_span(self, record: Record, run: Run) -> Span:
        """Start the span of the SDK that *record* stands for."""


_one_takes_over: Final = threading.Lock()


class Record(Span):
    """The spans of one run. *trace* and *parent* are ids in hexadecimal; *parent* is empty without one."""

    before = None
    """An ordinary call has no attempt before."""
    executed = False
    """Whether the tool was run, and this was its span."""
    replied = False
    """Whether the reply names its span."""
    taken_over: Span | None = None
    """What stands for the tool's span once the tool has touched it."""
    _ids: tuple[bytes, bytes, bytes] | None = None

    def __init__(  # noqa: PLR0917 - made for every call
        self,
        maker: Maker,
        run: Run,
        trace: str,
        parent: str,
        flags: int,
        sampled: bool,
    ) -> None:
        self._maker = maker
        self._run: Run | None = run
        self.trace = trace
        self.parent = parent
        self.flags = flags
        self.sampled = sampled
        """Whether the spans were to be exported from the start on."""

    @property
    def ids(self) -> tuple[bytes, bytes, bytes]:
        """The ids of `process`, `execute_tool` and `send` of the reply."""
        if self._ids is None and self._run is not None:
            self._ids = self._maker.ids(self._run)
        return self._ids or (b"", b"", b"")

    def ended(self) -> None:
        """Be nothing any more but the name of what has ended: the tool may keep it, and so may an exemplar."""
        self._run = None

    # ── as an example of what is measured ──────────────────────────────────────────────────────────────────────

    @property
    def trace_id(self) -> int:
        """Of all of its spans."""
        return int(self.trace, 16)

    @property
    def span_id(self) -> int:
        """Of `process`."""
        return int.from_bytes(self.ids[0])

    # ── as the span that the tool finds ────────────────────────────────────────────────────────────────────────

    @property
    def resource(self) -> Resource:
        """What the span tells of who has made it."""
        return self._maker.resource

    def get_span_context(self) -> SpanContext:
        """Name it. What is below a call that is not sampled hangs below its caller's span."""
        own = self.sampled or not self.parent
        span_id = int.from_bytes(self.ids[1 if self.sampled else 0]) if own else int(self.parent, 16)
        return SpanContext(self.trace_id, span_id, is_remote=not own, trace_flags=TraceFlags(self.flags))

    def is_recording(self) -> bool:
        """Tell whether what is said to it is of any use."""
        if self.taken_over is not None:
            return self.taken_over.is_recording()
        return self.sampled and self._run is not None

    def _touched(self) -> Span:
        """Give what can do the rest."""
        with _one_takes_over:
            run = self._run
            if self.taken_over is None:
                if run is None or not self.sampled:
                    return NonRecordingSpan(self.get_span_context())
                self.taken_over = self._maker.tool_span(self, run)
            return self.taken_over

    def __getattr__(self, name: str) -> Any:
        """Give what the SDK's spans have besides."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._touched(), name)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Say something about it."""
        self._touched().set_attribute(key, value)

    def set_attributes(self, attributes: Any) -> None:
        """Say several things about it."""
        self._touched().set_attributes(attributes)

    def add_event(self, *event: Any, **more: Any) -> None:
        """Say that something happened."""
        self._touched().add_event(*event, **more)

    def add_link(self, *link: Any, **more: Any) -> None:
        """Say what it has to do with."""
        self._touched().add_link(*link, **more)

    def update_name(self, name: str) -> None:
        """Call it something else."""
        self._touched().update_name(name)

    def set_status(self, *status: Any, **more: Any) -> None:
        """Say how it went."""
        self._touched().set_status(*status, **more)

    def record_exception(self, *exception: Any, **more: Any) -> None:
        """Say what was raised."""
        self._touched().record_exception(*exception, **more)

    def end(self, end_time: int | None = None) -> None:
        """End it, before we do."""
        self._touched().end(end_time)
