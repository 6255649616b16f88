"""Counters are there at 0 before anything happens: `increase()` sees the first thing that each counts."""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from toolspan.telemetry import catalog
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.testing import EmbeddedServer, Recorder


async def test_the_counters_of_every_tool_are_born_at_zero(settings: Settings, recorder: Recorder) -> None:
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        pass

    assert (0, {"gen_ai.tool.name": "echo", "toolspan.reason": "worker_lost"}) in recorder.points(
        "toolspan.dead_letters"
    )
    series = {}
    for metric in ("calls", "attempts", "reclaims", "unparked", "stale_results", "wasted", "dead_letters"):
        points = recorder.points(f"toolspan.{metric}")
        assert {attributes["gen_ai.tool.name"] for _, attributes in points} == {"echo", "_other"}, metric
        assert {value for value, _ in points} == {0}, metric
        series[metric] = len(points) // 2
    # What a tool costs in series, in each worker.
    assert series == {
        "calls": 12, "attempts": 24, "reclaims": 2, "unparked": 1, "stale_results": 1, "wasted": 3, "dead_letters": 6,
    }  # fmt: skip


async def test_the_first_attempt_that_is_lost_or_retried_and_the_first_replay_are_seen_by_increase(
    settings: Settings, recorder: Recorder
) -> None:
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        pass
    born = {
        (attributes["toolspan.delivery"], attributes["toolspan.outcome"])
        for _, attributes in recorder.points("toolspan.attempts")
    }

    ways = ("first", "retry", "reclaim", "replay")
    assert born >= {(way, outcome) for way in ways for outcome in ("retried", "released", "lost")}
    assert {("replay", "ok"), ("replay", "tool_error"), ("replay", "worker_error")} <= born


async def test_the_first_error_of_redis_is_seen_by_increase(
    plane: Plane, server: EmbeddedServer, recorder: Recorder
) -> None:
    counts: list[float] = []
    cut = {"toolspan_role": "read", "error_type": "StoreUnavailableError"}
    async with Proxy(server.port) as proxy:
        behind = plane.settings.model_copy(update={"redis_url": proxy.url})
        async with running_worker(toolbox.echo, settings=behind, probe=recorder.probe):
            counts += [value for value, attributes in recorder.points("toolspan.redis.errors") if _is(attributes, cut)]
            proxy.cut_before(b"XREADGROUP")
            await eventually(lambda: recorder.total("toolspan.redis.errors", **cut), because="it is counted")

    assert counts == [0]


@pytest.mark.parametrize("process", ["gateway", "monitor"])
def test_what_a_gateway_and_a_monitor_count_is_born_at_zero_too(recorder: Recorder, process: str) -> None:
    if process == "gateway":
        recorder.probe.serving("localhost", 80)
    else:
        recorder.probe.monitoring()
    points = recorder.points("toolspan.redis.errors")
    errors = {(attributes["error.type"], attributes["toolspan.role"]) for _, attributes in points}

    steps = {"replies", "listen", "routes", "cancel", "report"} if process == "gateway" else {"report", "retention"}
    assert errors == {(error, step) for error in ("StoreUnavailableError", "ServerFullError") for step in steps}
    if process == "gateway":
        sent = [(value, attributes.get("error.type")) for value, attributes in recorder.points(catalog.SENT.name)]
        assert sent == [(0, None), (0, "RedisUnavailable")]


@pytest.mark.parametrize("package", ["worker", "gateway", "monitor"])
def test_a_step_that_redis_may_fail_is_one_of_its_process(package: Literal["worker", "gateway", "monitor"]) -> None:
    """The type checker sees that it is any of them, but not of whom."""
    steps = {"worker": catalog.WORKER_STEPS, "gateway": catalog.GATEWAY_STEPS, "monitor": catalog.MONITOR_STEPS}
    nodes = list(_code_of(package))
    written = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    firsts = [call.args[0] for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "outage"]
    failing = {first.value for first in firsts if isinstance(first, ast.Constant)}

    own = set(steps[package]) - (set() if package == "monitor" else set(catalog.MONITOR_STEPS))
    assert own <= written
    assert failing <= own


def _code_of(package: str) -> Iterator[ast.AST]:
    for file in files(f"toolspan.{package}").iterdir():
        if file.name.endswith(".py"):
            yield from ast.walk(ast.parse(file.read_text()))


def _is(attributes: dict[str, Any], wanted: dict[str, str]) -> bool:
    return all(attributes.get(name.replace("_", ".")) == value for name, value in wanted.items())
