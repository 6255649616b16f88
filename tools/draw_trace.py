"""Draws the trace of a real call whose first worker is killed: docs/images/trace-light.svg and trace-dark.svg."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from contextlib import aclosing
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from toolspan.demo.processes import Processes
from toolspan.demo.sink import listening
from toolspan.demo.waterfall import complete, lost_on, tree
from toolspan.keys import Keys
from toolspan.model import LOSSES
from toolspan.store import Connection, Inspector
from toolspan.telemetry import attributes as at
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from toolspan.demo.sink import Sink, Span

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
LEASE_MS: Final = 1_000
WORKERS: Final = ("a", "b")
TOOL: Final = "summarise"

PALETTES: Final = {
    "light": {"paper": "#ffffff", "line": "#e3e6ee", "ink": "#1d2433", "dim": "#69728a",
              "ours": "#4653c4", "tool": "#15803d", "lost": "#c62f3b"},
    "dark": {"paper": "#161a26", "line": "#2a3042", "ink": "#e6e9f2", "dim": "#929bb4",
             "ours": "#8b9bff", "tool": "#4cc38a", "lost": "#ff7a85"},
}  # fmt: skip
FONTS: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

WIDTH, ROW, HEAD, EDGE = 1120, 30, 76, 24
SPANS_AT, WHERE_AT, BARS_AT, ENDS_AT = EDGE, 340, 450, 985
NARROWEST: Final = 3
NS_PER_SECOND: Final = 1_000_000_000


async def main() -> int:
    """Make the call, kill its worker, and draw what all of them told."""
    with EmbeddedServer() as server, listening() as sink:
        variables = {
            "TOOLSPAN_REDIS_URL": server.url,
            "TOOLSPAN_LEASE_MS": str(LEASE_MS),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with Processes(server.folder, variables) as processes:
            processes.start("gateway", "gateway", "--port", "0")
            for name in WORKERS:
                processes.start(name, "worker", "--tools", "toolspan.demo.tools", "--name", f"worker-{name}")
            async with aclosing(Connection.to(server.url)) as connection:
                spans = await the_trace(Inspector(connection, Keys()), processes, sink)
    for name, colors in PALETTES.items():
        (IMAGES / f"trace-{name}.svg").write_text("".join(drawn(spans, colors)))
    print(f"drawn: {len(spans)} spans")
    return 0


async def the_trace(inspector: Inspector, processes: Processes, sink: Sink) -> list[Span]:
    """Call a slow tool, kill the worker that runs it, and give the spans once all are there."""
    await processes.until(
        lambda: all(processes.said(name, "worker.started") for name in WORKERS), "both workers serve", within=30
    )
    await processes.until(lambda: processes.said("gateway", "gateway.started") is not None, "it listens", within=30)
    port = (processes.said("gateway", "gateway.started") or {})["port"]
    calling = asyncio.create_task(asyncio.to_thread(call, f"http://127.0.0.1:{port}/v1/tools/{TOOL}/calls"))
    runs: list[str] = []
    while not runs:
        await asyncio.sleep(0.3)
        runs = [name for name, held in (await inspector.pending_by_consumer()).items() if held]
    victim = next(worker for worker in await inspector.workers() if worker.consumer in runs)
    os.kill(victim.pid, signal.SIGKILL)
    await calling
    for _ in range(200):
        await asyncio.sleep(0.1)
        for spans in list(sink.traces.values()):
            if complete(spans) and lost_on(spans) and any(span.name.startswith("call") for span in spans):
                return spans
    message = "the trace did not arrive"
    raise SystemExit(message)


def call(url: str) -> None:
    """Call the tool over HTTP."""
    body = json.dumps({"args": {"text": "It was a dark and stormy night"}}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:  # noqa: S310 - our own
        response.read()


def drawn(spans: Sequence[Span], colors: dict[str, str]) -> Iterator[str]:
    """Draw the spans, each below its parent and to its time."""
    rows = list(tree(spans))
    began = min(span.start_ns for span in spans)
    length = max(span.end_ns for span in spans) - began
    height = HEAD + ROW * len(rows) + EDGE
    scale = (ENDS_AT - BARS_AT) / length
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="{escape(FONTS)}" '
        f'font-size="14">\n<title>One call, one trace: its first worker was killed, another one answered</title>\n'
        f'<defs><pattern id="lost" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="3.5" height="7" fill="{colors["lost"]}"/></pattern></defs>\n'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="{colors["paper"]}" '
        f'stroke="{colors["line"]}"/>\n'
    )
    for title, x in (("span", SPANS_AT), ("where", WHERE_AT)):
        yield text(title, x, HEAD - 30, colors["dim"])
    for second in range(length // NS_PER_SECOND + 1):
        tick = BARS_AT + second * NS_PER_SECOND * scale
        yield text(f"{second} s", tick, HEAD - 30, colors["dim"], anchor="middle")
        yield f'<path d="M{tick:.1f} {HEAD - 18}V{height - EDGE}" stroke="{colors["line"]}"/>\n'
    for number, (span, branch) in enumerate(rows):
        bar = BARS_AT + (span.start_ns - began) * scale, (span.end_ns - span.start_ns) * scale
        yield from row(span, branch, HEAD + ROW * number, bar, colors)
    yield "</svg>\n"


def row(span: Span, branch: str, y: int, bar: tuple[float, float], colors: dict[str, str]) -> Iterator[str]:
    """One span: its name, where it was, its bar, how long it took and what became of it."""
    error = span.attributes.get(at.ERROR_TYPE)
    lost = error in LOSSES
    color = colors["lost" if lost else "tool" if span.name.startswith("execute_tool") else "ours"]
    attempt = f" #{span.attributes.get(at.ATTEMPT)}" if span.name.startswith("process") else ""
    name = span.name if len(span.name) < 26 else span.name.replace("/v1/tools/{tool}", "…")  # noqa: PLR2004
    where = span.instance.rsplit("-", 2)[0] if span.service == "toolspan-worker" else "gateway"
    x, wide = bar
    shape = f'x="{x:.1f}" y="{y - 1}" width="{max(NARROWEST, wide):.1f}" height="16" rx="3"'
    yield text(branch + name + attempt, SPANS_AT, y + 12, color if lost else colors["ink"])
    yield text(where, WHERE_AT, y + 12, colors["dim"])
    yield f'<rect {shape} fill="{color}"{" fill-opacity=" + chr(34) + ".18" + chr(34) if lost else ""}/>\n'
    if lost:
        yield f'<rect {shape} fill="url(#lost)" fill-opacity=".55" stroke="{color}"/>\n'
    milliseconds = (span.end_ns - span.start_ns) / 1e6
    yield text(f"{milliseconds:,.0f} ms" if milliseconds >= 1 else f"{milliseconds:.1f} ms", WIDTH - EDGE, y + 12,
               colors["dim"], anchor="end")  # fmt: skip
    if error:
        yield text(f"✗ {error}", x + wide + 8, y + 12, color)


def text(words: str, x: float, y: float, color: str, *, anchor: str = "start") -> str:
    """Some words; spaces in front of them count."""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}" xml:space="preserve">{escape(words)}</text>\n'
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
