"""Some thousand calls while workers are killed and frozen: what a real collector was sent agrees with Redis exactly."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.stack.backends import keeping
from tests.stack.process import Process
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.runs import starts
from tests.support.variables import not_ours, saying
from tests.telemetry.agreement import Figure, Story, figures, show, steps_in, strays
from toolspan import ToolClient, ToolspanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.backends import Backends
    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers

OTEL: Final = Path(__file__).parent.parent.parent / "otel"
ROUNDS: Final = 12
QUICK: Final = 250
HELD: Final = 10
SILENT: Final = 4
FROZEN_EVERY: Final = 4
WORKERS: Final = 3
PATIENCE: Final = 60.0
_LATER: Final = {"reaps", "calls of callers, by outcome"}
"""What is looked at in the end only."""

_REAPED_AFTER_MS: Final = 2_000

_TO_BACKENDS: Final = """
exporters:
  otlphttp/kept:
    endpoint: %s
service:
  pipelines:
    traces: {exporters: [otlphttp/kept]}
    metrics: {exporters: [otlphttp/kept]}
    logs: {exporters: [otlphttp/kept]}
"""

pytestmark = pytest.mark.parametrize("server_name", ["valkey"], indirect=True)


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backends]:
    """A collector with the shipped base layer; what it makes of what it is sent is kept."""
    otlp = f"127.0.0.1:{free_port()}"
    with keeping() as backends:
        layer = tmp_path / "kept.yaml"
        layer.write_text(_TO_BACKENDS % backends.endpoint)
        program = str(Path(os.environ["TEST_STACK"]) / "otelcol")
        running = Process(
            "collector",
            [program, "--config", str(OTEL / "collector.yaml"), "--config", str(layer)],
            cwd=tmp_path,
            log=tmp_path / "collector.log",
            variables={
                "COLLECTOR_OTLP_HTTP": otlp,
                "COLLECTOR_OTLP_GRPC": "127.0.0.1:0",
                "COLLECTOR_HEALTH": f"127.0.0.1:{free_port()}",
                "COLLECTOR_METRICS_HOST": "127.0.0.1",
                "COLLECTOR_METRICS_PORT": str(free_port()),
            },
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{otlp}")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield backends
        running.check()
        running.end()


class Run:
    """Rounds of calls, in each of which a worker is killed or frozen; and what is known of them."""

    def __init__(self, plane: Plane, workers: Workers, collector: Backends, client: ToolClient, folder: Path) -> None:
        self._plane = plane
        self._workers = workers
        self._collector = collector
        self._client = client
        self._folder = folder
        self._running: dict[str, WorkerProcess] = {}
        self._started = 0
        self._outcomes: list[str] = []
        self._killed: list[str] = []

    async def start_worker(self, **more: Any) -> None:
        """Start one more, with *more* variables."""
        known = set(await self._plane.beating())
        self._started += 1
        variables: dict[str, Any] = {**_exporting(), **more}
        worker = await self._workers.start("--log-level", "info", name=f"w{self._started}", **variables)
        [name] = set(await self._plane.beating()) - known
        self._running[name] = worker

    async def round(self, number: int) -> None:
        """Have calls run and others be held, then take away the worker that holds most, and let all end."""
        runs, release = self._folder / f"runs-{number}", self._folder / f"release-{number}"
        for n in range(HELD):
            await self._plane.append("until", f"{number}-{n}", path=str(runs), release=str(release))
        await self._plane.append("until.once", f"{number}-once", path=str(runs), release=str(release))
        for n in range(SILENT):
            await self._plane.append("fails", f"{number}-silent-{n}", reply=False)
        bad = ("v", "1", "id", f"{number}-bad", "tool", "echo", "args", "[]", "reply_to", self._plane.reply_to)
        await self._plane.add(*bad)
        await self._call_quick_ones(number)
        await eventually(lambda: starts(runs) == HELD + 1, because="all that is held runs", within=PATIENCE)
        await self._agreed()
        held = Counter(owner for owner, _ in (await self._plane.pending()).values())
        [(name, _)] = held.most_common(1)
        if number % FROZEN_EVERY == FROZEN_EVERY - 1:
            self._running[name].signal(signal.SIGSTOP)
        else:
            self._running.pop(name).kill()
            self._killed.append(name)
            await self.start_worker()
        await eventually(lambda: self._holds_nothing(name), because="others take over", within=PATIENCE)
        if name in self._running:
            self._running[name].signal(signal.SIGCONT)
        release.touch()
        await eventually(self._is_over, because="all has its end", within=PATIENCE)

    async def _call_quick_ones(self, number: int) -> None:
        client, path = self._client, self._folder
        answers = await asyncio.gather(
            *(client.call("echo", {"text": str(n)}) for n in range(QUICK - 22)),
            *(client.call("fails") for _ in range(10)),
            *(client.call("flaky", {"path": str(path / f"f-{number}-{n}"), "good_from": 3}) for n in range(5)),
            *(client.call("again", {"path": str(path / f"a-{number}-{n}"), "good_from": 2}) for n in range(5)),
            client.call("hangs"),
            client.call("nobody.serves.this"),
            return_exceptions=True,
        )
        strange = [one for one in answers if isinstance(one, BaseException) and not isinstance(one, ToolspanError)]
        assert strange == []
        self._outcomes += [getattr(one, "type", "ok") for one in answers]

    async def _holds_nothing(self, name: str) -> bool:
        return not await self._plane.pending(name)

    async def _is_over(self) -> bool:
        return await self._plane.left() == 0

    async def _agreed(self) -> None:
        """Wait until all that has happened was exported: whoever is killed takes nothing else with him."""

        differing: list[Figure] = []

        async def agree() -> bool:
            # Whatever is looked at grows with every call.
            await asyncio.sleep(0.2)
            story = await self.story()
            differing[:] = [one for one in figures(story) if not one.agrees and one.name not in _LATER]
            return not differing

        try:
            await eventually(agree, because="what has ended was exported", within=PATIENCE)
        except AssertionError:
            pytest.fail("\n".join(map(repr, differing)))

    async def replay(self) -> None:
        """Put the dead letters of failed tools back; they fail once more."""
        variables = {**not_ours(), **saying(self._plane.settings), **_exporting()}
        command = ("dlq", "replay", "--all-matching", "--reason", "tool_failed")
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "toolspan", *command, env=variables)
        assert await process.wait() == 0
        await eventually(self._is_over, because="all are run again", within=PATIENCE)

    async def end(self) -> None:
        """Have those that are dead be reaped, and the others drain."""
        # Only now: one who is killed takes with him that he has reaped another a moment before.
        await self.start_worker(TOOLSPAN_REAP_AFTER_MS=_REAPED_AFTER_MS)
        await eventually(self._reaped_all, because="the dead are reaped", within=PATIENCE)
        for worker in self._running.values():
            worker.signal(signal.SIGTERM)
        assert [await worker.exited() for worker in self._running.values()] == [0] * len(self._running)

    async def _reaped_all(self) -> bool:
        return await self._reaped() == len(self._killed)

    async def _reaped(self) -> int:
        return len({*self._killed} - {*await self._plane.consumers()})

    async def story(self) -> Story:
        """Tell what is known so far."""
        keys, redis = self._plane.keys, self._plane.redis
        audit: Any = await redis.execute_command("XRANGE", keys.audit, "-", "+")
        letters = Counter((letter.reason, letter.error_type) for letter in await self._plane.dead_letters())
        letters["tool_failed", "tool_error"] += len(audit)
        return Story(
            await self._plane.replies(),
            await steps_in(self._plane),
            +letters,
            {str(number): outcome for number, outcome in enumerate(self._outcomes)},
            self._collector,
            keys.calls,
            reaped=await self._reaped(),
            replayed=len(audit),
        )


def _exporting() -> dict[str, str]:
    """Say where telemetry goes, as this process was told."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


@pytest.mark.timeout(300)
async def test_after_kills_and_freezes_redis_counters_spans_and_events_agree(
    plane: Plane, workers: Workers, collector: Backends, tmp_path: Path
) -> None:
    async with ToolClient(plane.settings) as client:
        run = Run(plane, workers, collector, client, tmp_path)
        for _ in range(WORKERS):
            await run.start_worker()
        for number in range(ROUNDS):
            await run.round(number)
        await run.replay()
        await run.end()
    story = await run.story()
    show(story)

    assert [one for one in figures(story) if not one.agrees] == []
    assert strays(story) == []
    assert story.reaped == ROUNDS - ROUNDS // FROZEN_EVERY
    assert story.replayed == ROUNDS * SILENT
    assert story.step("reclaimed").total() >= ROUNDS
    assert len(story.told("toolspan.stale_result") + story.told("toolspan.lease.lost")) >= ROUNDS // FROZEN_EVERY
