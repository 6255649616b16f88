"""PromQL from catalog entries, so that no query can name what we do not export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from toolspan.telemetry import attributes as at
from toolspan.telemetry.catalog import Metric

STREAM: Final = "toolspan_stream"
"""On every series of ours: Prometheus promotes it from the resource."""
TOOL: Final = at.TOOL_NAME.replace(".", "_")
WAITED_TOO_LONG: Final = "no_reply"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which series a query looks at, and over which window; an empty selector is left out."""

    window: str
    stream: str = ""
    tool: str = ""
    instance: str = ""
    job: str = ""

    def without_tool(self) -> Scope:
        """The same for all tools."""
        return replace(self, tool="")


BOARD: Final = Scope("$__rate_interval", stream="$stream")
"""What the boards look at: what their reader has chosen."""
TOOL_BOARD: Final = replace(BOARD, tool="$tool")
WORKER_BOARD: Final = replace(BOARD, instance="$instance")
GATEWAY: Final = "toolspan-gateway"
GATEWAY_BOARD: Final = replace(BOARD, job=GATEWAY)


def label(attribute: str) -> str:
    """Name an attribute as Prometheus does."""
    return attribute.replace(".", "_")


def labels(*attributes: str) -> str:
    """List attributes for a `by` clause."""
    return ", ".join(label(attribute) for attribute in attributes)


def select(metric: Metric, scope: Scope, where: Mapping[str, str] | None = None, *, part: str = "") -> str:
    """Select the series of *metric*; a condition is the attribute and what follows its name: `="ok"`.

    Raises:
        ValueError: if the metric has no such attribute.
    """
    conditions = []
    if scope.stream:
        conditions.append(f'{STREAM}=~"{scope.stream}"')
    if scope.job:
        conditions.append(f'job="{scope.job}"')
    if scope.instance:
        conditions.append(f'instance=~"{scope.instance}"')
    if scope.tool and at.TOOL_NAME in metric.attributes:
        conditions.append(f'{TOOL}=~"{scope.tool}"')
    for attribute, condition in (where or {}).items():
        if attribute not in (*metric.attributes, "le"):
            message = f"{metric.name} has no attribute {attribute}"
            raise ValueError(message)
        conditions.append(label(attribute) + condition)
    chosen = f"{{{', '.join(conditions)}}}" if conditions else ""
    return f"{metric.prometheus}{part}{chosen}"


def rate(
    metric: Metric, scope: Scope, *by: str, where: Mapping[str, str] | None = None, part: str = "", of: str = "rate"
) -> str:
    """How much of a counter there is per second, added up *by* attributes; *of* may be `increase`."""
    return f"{_over('sum', by)}({of}({select(metric, scope, where, part=part)}[{scope.window}]))"


def count(metric: Metric, scope: Scope, *by: str, where: Mapping[str, str] | None = None) -> str:
    """How many observations of a histogram there are per second."""
    return rate(metric, scope, *by, where=where, part="_count")


def quantile(q: float, metric: Metric, scope: Scope, *by: str, where: Mapping[str, str] | None = None) -> str:
    """A quantile of a histogram, in its unit."""
    return f"histogram_quantile({q:g}, {rate(metric, scope, 'le', *by, where=where, part='_bucket')})"


def largest(metric: Metric, scope: Scope, *by: str, where: Mapping[str, str] | None = None) -> str:
    """A gauge of the group: whoever reports it, it is one figure."""
    return f"{_over('max', by)}({select(metric, scope, where)})"


def total(metric: Metric, scope: Scope, *by: str, where: Mapping[str, str] | None = None) -> str:
    """A gauge of each worker, added up; of those that have reported lately."""
    return f"{_over('sum', by)}({lately(metric, scope, where)})"


def lately(metric: Metric, scope: Scope, where: Mapping[str, str] | None = None) -> str:
    """A gauge of each worker; a dead one goes in a minute, for what is pushed has no end that Prometheus would see."""
    return f"last_over_time({select(metric, scope, where)}[1m])"


def ratio(part: str, whole: str) -> str:
    """A share; nothing at all where there is nothing to have a share of."""
    return f"{part} / ({whole} > 0)"


def one_of(*values: str) -> str:
    """A condition: one of these."""
    return f'=~"{"|".join(values)}"'


def _over(how: str, by: tuple[str, ...]) -> str:
    return f"{how} by ({labels(*by)}) " if by else how
