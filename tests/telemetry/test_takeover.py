"""One process reports the group, under one name; when it dies another goes on, and nothing stands there twice."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import server_names
from tests.support.eventually import eventually
from tests.telemetry.collector import collecting

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from tests.telemetry.collector import Collector

LETTERS = "toolspan.dlq.length"
TAKEOVER_SECONDS = 15.0
INTERVAL_SECONDS = 10.0


async def _holder(plane: Plane) -> str:
    raw = await plane.redis.execute_command("GET", plane.keys.monitor)
    return raw.decode() if raw else ""


async def _others(plane: Plane, name: str) -> bool:
    return await _holder(plane) not in {"", name}


def _values(collector: Collector) -> list[float]:
    return [value for _, value, _ in collector.points(LETTERS)]


# On one server: half a minute goes by, and none of it is the server's.
@pytest.mark.parametrize("server_name", server_names()[-1:], indirect=True)
async def test_another_reports_when_the_one_who_did_is_killed(plane: Plane, workers: Workers) -> None:
    with collecting() as collector:
        exporting: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": int(INTERVAL_SECONDS * 1000),
        }
        await plane.redis.execute_command("XADD", plane.keys.dead_letters, "*", "on", "purpose")
        running = {}
        for name in ("first", "second"):
            running[name] = await workers.start(name=name, **exporting)
        await eventually(lambda: _others(plane, ""), because="one is elected")
        await eventually(lambda: _values(collector), because="it reports", within=30)
        dead = await _holder(plane)
        running.pop(dead.partition("-")[0]).kill()
        killed = time.time()
        before = len(_values(collector))
        await plane.redis.execute_command("XADD", plane.keys.dead_letters, "*", "on", "purpose")
        await eventually(lambda: _others(plane, dead), because="another is elected", within=TAKEOVER_SECONDS + 5)
        took = time.time() - killed
        await eventually(lambda: len(_values(collector)) > before + 2, because="it goes on", within=40)
        series = {
            (resource["service.name"], resource["service.instance.id"], *attributes)
            for resource, _, attributes in collector.points(LETTERS)
        }
        gaps = [later - earlier for earlier, later in pairwise(collector.times(LETTERS))]

    assert took < TAKEOVER_SECONDS
    assert set(_values(collector)[before:]) == {2}
    assert series == {("toolspan-monitor", f"{plane.keys.prefix}:{plane.keys.stream}")}
    assert max(gaps) < 2 * INTERVAL_SECONDS
    # Never two at once.
    assert min(gaps) >= 0
