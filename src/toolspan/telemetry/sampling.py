"""Which spans are kept whatever the sampler says: those of attempts that are no ordinary ones.

`Keeping` is a head sampler: it decides when a span starts. By then it is known that an attempt is not the first one,
that its call was lost, may not be run any more or cannot be decoded. That a first attempt will fail is not known; where
its spans are kept until it ends (see `lean`), those of one that has failed are exported all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

    from toolspan.model import Run

_KEPT: Final = otel_context.create_key("toolspan-kept")


def is_kept(run: Run) -> bool:
    """Tell whether the attempt is one to keep, as far as that is known when it begins."""
    delivery = run.delivery
    return delivery.attempt > 1 or not delivery.counted or delivery.loss is not None or run.call is None


def keeping(context: Context) -> Context:
    """Give *context* with the wish that what starts in it, and below, is kept."""
    return otel_context.set_value(_KEPT, value=True, context=context)


class Keeping(Sampler):
    """Samples what is to be kept, and leaves the rest to another sampler."""

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(  # noqa: PLR0917
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on one span."""
        if parent_context is not None and parent_context.get(_KEPT):
            state = get_current_span(parent_context).get_span_context().trace_state
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, state)
        return self._others.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Say what it does."""
        return f"Keeping({self._others.get_description()})"


class Rule(NamedTuple):
    """What a sampler decides by, where it is one of the standard ones: the parent, or else the trace id."""

    by_parent: bool
    below: int
    """Traces are sampled whose lower 64 bits are below it."""

    def samples(self, trace_id: str, parent_sampled: bool | None) -> bool:
        """Decide on a trace, whose id is given in hexadecimal."""
        if self.by_parent and parent_sampled is not None:
            return parent_sampled
        return self.below == _ALL or int(trace_id[16:], 16) < self.below


_ALL: Final = 1 << 64
_ROOTS: Final = {"AlwaysOnSampler": _ALL, "AlwaysOffSampler": 0}
_BY_RATIO: Final = re.compile(r"TraceIdRatioBased\{([0-9.e-]+)\}")
_BY_PARENT: Final = re.compile(
    r"ParentBased\{root:(.+),remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
    r"localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler\}"
)


def rule_of(sampler: Sampler) -> Rule | None:
    """Give the rule of one of the samplers that `OTEL_TRACES_SAMPLER` can name; None for any other."""
    described = sampler.get_description()
    by_parent = _BY_PARENT.fullmatch(described)
    root = by_parent.group(1) if by_parent else described
    by_ratio = _BY_RATIO.fullmatch(root)
    below = TraceIdRatioBased.get_bound_for_rate(float(by_ratio.group(1))) if by_ratio else _ROOTS.get(root)
    return None if below is None else Rule(by_parent is not None, below)
