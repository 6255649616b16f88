"""The story of the demo, from start to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final, cast

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from toolspan.demo import load
from toolspan.demo.processes import Processes
from toolspan.demo.sink import listening
from toolspan.demo.waterfall import LEGEND, complete, lost_on, waterfall
from toolspan.errors import ToolspanError
from toolspan.periodic import ended
from toolspan.settings import Settings
from toolspan.store import Connection, DeadLetterStore, Inspector
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from toolspan.demo.sink import Sink, Span
    from toolspan.store.inspect import WorkerInfo

_WORKERS: Final = 2
_LEASE_MS: Final = 2_000
"""Short, so that nobody has to wait for the calls of a dead worker."""
_CONCURRENCY: Final = 16
_START_SECONDS: Final = 20.0
_EXPORT_SECONDS: Final = 15.0
_KILL_AFTER: Final = load.TOTAL // 5
_WIDTH: Final = 118
"""Where the output is no terminal."""


async def show(*, keep: bool, until: asyncio.Event) -> None:
    """Run the demo; with *keep*, leave everything running at its end until *until* is set.

    Raises:
        ToolspanError: if something is not as it should be: a process that ended, a call without a reply.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        sink = stack.enter_context(listening())
        settings = Settings(
            redis_url=server.url,
            prefix="sg",
            stream="tools",
            lease_ms=_LEASE_MS,
            concurrency=_CONCURRENCY,
            drain_seconds=5,
        )
        processes = stack.enter_context(Processes(server.folder, _variables(settings, sink)))
        async with aclosing(Connection.to(server.url)) as connection:
            demo = _Demo(console, settings, processes, sink, connection)
            await _unless(until, demo.story())
            if keep:
                demo.how_to_look_around()
                await until.wait()
            else:
                demo.what_next()


async def _unless(until: asyncio.Event, story: Coroutine[None, None, None]) -> None:
    """See *story* to its end, unless *until* is set before."""
    telling = asyncio.create_task(story, name="story")
    stopped = asyncio.create_task(until.wait(), name="stop")
    await asyncio.wait({telling, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not telling.done():
        await ended(telling)
        message = "the demo was stopped before its end"
        raise ToolspanError(message)
    telling.result()


def _variables(settings: Settings, sink: Sink) -> dict[str, str]:
    """Make the environment of the demo's processes; quick exports, for somebody is watching."""
    ours = ("redis_url", "prefix", "stream", "lease_ms", "concurrency", "drain_seconds", "max_attempts")
    return {
        **{f"TOOLSPAN_{name.upper()}": str(getattr(settings, name)) for name in ours},
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


def _answered(span: Span) -> bool:
    return span.name.startswith("process") and not span.failed


def _us() -> str:
    """Say how the command that runs now is typed."""
    script = Path(sys.executable).with_name("toolspan")
    if which("toolspan") == str(script) or not script.exists():
        return "toolspan"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


class _Demo:
    def __init__(
        self, console: Console, settings: Settings, processes: Processes, sink: Sink, connection: Connection
    ) -> None:
        self._console = console
        self._settings = settings
        self._processes = processes
        self._sink = sink
        self._inspector = Inspector(connection, settings.keys)
        self._letters = DeadLetterStore(connection, settings.keys)
        self._tally = load.Tally()
        self._port = 0
        self._killed = ""

    async def story(self) -> None:
        """Start everything, load it, kill a worker, and show what became of the calls."""
        await self.start()
        await self.load()
        await self.explain()

    async def start(self) -> None:
        """Start the gateway, two workers and the monitor, and wait until they serve."""
        say = self._console.print
        say("\n[bold]Toolspan[/]: an embedded Valkey, a gateway, two worker processes and the monitor\n")
        self._processes.start("gateway", "gateway", "--port", "0")
        workers = ("--tools", "toolspan.demo.tools", "--processes", str(_WORKERS), "--name", "w")
        self._processes.start("workers", "worker", *workers)
        self._processes.start("monitor", "monitor")
        serving = self._processes.said
        await self._processes.until(
            lambda: serving("gateway", "gateway.started") is not None,
            "the gateway serves",
            within=_START_SECONDS,
        )
        self._port = cast("int", (serving("gateway", "gateway.started") or {})["port"])
        await self._until_workers_serve()
        names = ", ".join(worker.consumer for worker in await self._inspector.workers())
        say(f"  gateway   http://127.0.0.1:{self._port}\n  workers   {names}\n")
        say(f"Now {load.TOTAL} calls of its tools, and one worker is killed while it runs some of them.\n")

    async def _until_workers_serve(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while len([worker for worker in await self._inspector.workers() if worker.live]) < _WORKERS:
                await self._processes.until(lambda: True, "two workers serve", within=_START_SECONDS)
                await asyncio.sleep(0.05)

    async def load(self) -> None:
        """Make all calls, and kill a worker while it runs some of them."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task("calls answered", total=load.TOTAL)
            enough = asyncio.Event()

            def told() -> None:
                progress.update(bar, completed=self._tally.answered)
                if self._tally.answered >= _KILL_AFTER:
                    enough.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(self._port, tally=self._tally, told=told), name="load")
                await enough.wait()
                await self._kill()
        if self._tally.unanswered:
            message = f"{len(self._tally.unanswered)} calls without a reply; the first: {self._tally.unanswered[0]}"
            raise ToolspanError(message)

    async def _kill(self) -> None:
        """Kill the worker that holds the most calls."""
        held = await self._inspector.pending_by_consumer()
        workers = [worker for worker in await self._inspector.workers() if worker.live]
        victim: WorkerInfo = max(workers, key=lambda worker: held.get(worker.consumer, 0))
        os.kill(victim.pid, signal.SIGKILL)
        self._killed = victim.consumer
        self._console.print(
            f"  [red]SIGKILL[/] for {victim.consumer}, which held {held.get(victim.consumer, 0)} calls\n"
            f"  Once their lease of {_LEASE_MS / 1000:g} s is over, another worker takes them."
        )

    async def explain(self) -> None:
        """Show one trace with the attempt that died, how all calls ended, and what Redis still holds."""
        found: list[list[Span]] = []

        def exported() -> bool:
            found[:] = self._survivors()
            return bool(found)

        await self._processes.until(exported, "a trace with the lost attempt is there", within=_EXPORT_SECONDS)
        spans = min(found, key=len)
        trace_id = next(trace_id for trace_id, kept in self._sink.traces.items() if kept[0].span_id == spans[0].span_id)
        say = self._console.print
        say(f"\n[bold]One call, one trace[/]: it ran on {self._killed} when that was killed")
        say(f"[dim]trace {trace_id.hex()}[/]")
        say(waterfall(spans, width=self._console.width))
        say(f"[dim]{LEGEND}[/]\n")
        say("[bold]How all calls ended[/]")
        say(self._outcomes())
        await self._check()

    def _survivors(self) -> list[list[Span]]:
        """Give the traces of calls that the killed worker ran and another one answered."""
        traces = [list(spans) for spans in self._sink.traces.values()]
        return [
            spans
            for spans in traces
            if lost_on(spans) == {self._killed} and complete(spans) and any(_answered(span) for span in spans)
        ]

    def _outcomes(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("tool", "what it does"):
            table.add_column(name)
        for name in ("calls", "replies"):
            table.add_column(name, justify="right")
        table.add_column("outcomes")
        for kind, outcomes in self._tally.outcomes.items():
            ended = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
            table.add_row(kind.tool, kind.meaning, str(kind.count), str(outcomes.total()), ended)
        return table

    async def _check(self) -> None:
        """Compare with what Redis holds: nothing may be left but the dead letter of the call that kills."""
        left = await self._inspector.snapshot(lease_ms=_LEASE_MS)
        letters = [letter async for letter in self._letters.all()]
        still_open = sum(count or 0 for count in (left.pending, left.undelivered, left.parked))
        reasons = ", ".join(sorted({letter.reason for letter in letters})) or "none"
        self._console.print(
            f"  {load.TOTAL} calls, {self._tally.answered} replies, {self._tally.again} of them after more than one "
            f"attempt\n"
            f"  still open: {still_open}; dead letters: {len(letters)} ({reasons})"
        )
        for letter in letters:
            self._console.print(
                f"  render took down {len(letter.attempts)} workers, each replaced, and is kept for a person to look at"
            )
        self._console.print()
        if self._tally.answered != load.TOTAL or still_open or len(letters) != 1:
            message = "the figures above are not what they should be: every call answered, one dead letter, none open"
            raise ToolspanError(message)

    def how_to_look_around(self) -> None:
        """Say what can be done while everything goes on running."""
        self._console.print(
            "[bold]Everything still runs[/], until Ctrl-C. In another terminal:\n\n"
            f"  export TOOLSPAN_REDIS_URL='{self._settings.redis_url}'\n"
            f"  {_us()} tools\n"
            f'  {_us()} call search \'{{"query": "redis"}}\'\n'
            f"  {_us()} dlq ls\n"
            f'  curl -si http://127.0.0.1:{self._port}/v1/tools/search/calls -d \'{{"args": {{"query": "redis"}}}}\'\n',
            soft_wrap=True,
            markup=True,
        )

    def what_next(self) -> None:
        """Say what to try after the demo."""
        self._console.print(
            "[bold]Next[/]\n"
            f"  {_us()} demo --keep      the same, and it stays up for you to call tools and look at the dead letter\n"
            f"  {_us()} worker --help    how tools of your own are served, from your Redis\n",
            soft_wrap=True,
        )
