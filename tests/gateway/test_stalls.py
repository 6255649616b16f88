"""What blocks the loop of a gateway is told while it does, with its stack."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support import preloaded
from tests.support.eventually import eventually
from tests.support.variables import not_ours, saying
from tests.telemetry.collector import Collector, collecting
from toolspan.periodic import LONGEST_TICK
from toolspan.telemetry.catalog import GATEWAY_STALL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.forks import Process
    from toolspan.settings import Settings


@pytest.fixture
def listening() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def gateway(settings: Settings, listening: Collector, log: Path, tmp_path: Path) -> Iterator[Process]:
    """A real one, which the failure of a tool blocks until the file `go` is there."""
    variables = {
        "TOOLSPAN_REDACT": "tests.gateway.blocking:slow",
        "UNBLOCKED_BY": str(tmp_path / "go"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": listening.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "50",
    }
    with log.open("wb") as out:
        process = preloaded.start(
            ["gateway", "--port", "0"],
            environment=not_ours() | saying(settings) | variables,
            folder=None,
            output=out.fileno(),
        )
    yield process
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.usefixtures("worker")
async def test_what_blocks_a_gateway_is_told_with_its_stack_while_it_does(
    gateway: Process, listening: Collector, log: Path, tmp_path: Path
) -> None:
    [started] = await eventually(lambda: _lines(log, "gateway.started"), because="it listens")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{started['port']}") as http:
        calling = asyncio.create_task(http.post("/v1/tools/error.tool_error/calls", json={}, timeout=60))
        await eventually(lambda: listening.records("toolspan.loop.stalled"), because="it is told of")
        blocked = not calling.done()
        (tmp_path / "go").touch()
        answer = await calling
    # Two threads look at the clock: the one that tells of it may find the loop a tick later than the loop itself does.
    late = GATEWAY_STALL_SECONDS - LONGEST_TICK
    await eventually(lambda: _lag(listening) > late, because="the loop was late, and says so")
    gateway.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait) == 0
    [(resource, record)] = listening.records("toolspan.loop.stalled")
    told = {pair.key: pair.value.string_value for pair in record.attributes}
    [line] = _lines(log, "loop.stalled")

    assert blocked
    assert answer.json()["error"]["type"] == "tool_error"
    assert resource["service.name"] == "toolspan-gateway"
    assert told["messaging.client.id"] == resource["service.instance.id"] == line["consumer"]
    assert told["exception.stacktrace"] == line["stack"]
    assert "blocking.py" in line["stack"]
    assert "in slow" in line["stack"]
    assert line["level"] == "error"
    assert line["seconds"] > GATEWAY_STALL_SECONDS


def _lag(collector: Collector) -> float:
    return max((float(point.max) for _, point in collector.histograms("toolspan.loop.lag")), default=0.0)


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return [line for line in lines if line["event"] == event]
