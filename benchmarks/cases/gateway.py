"""What the HTTP front door adds to its own server."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Final

from benchmarks.backlog import CPU, RATE
from benchmarks.case import Case, Goal, Measure
from benchmarks.contenders import TOOLSPAN, python
from benchmarks.http_load import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.case import Figures, Run, Scale
    from benchmarks.stage import Stage


def _served(command: Callable[[str], tuple[str, ...]], *, worker: bool) -> Run:
    def run(stage: Stage, scale: Scale) -> Figures:
        port, count = stage.free_port(), scale.of(10_000, quick=1_000)
        if worker:
            TOOLSPAN.start(stage)
            stage.until(lambda: bool(stage.look.exists(stage.keys.workers)), "the worker is there")
        server = stage.start(command(str(port)))
        stage.until(lambda: _listens(port), "the server listens", server)
        cpu = server.cpu_seconds()
        rate = json.loads(stage.start(python("benchmarks.http_load", str(port), str(count)), hears=True).said())
        return {"rate": rate, "cpu": (server.cpu_seconds() - cpu) / count * 1e6}

    return run


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


CASE: Final = Case(
    "gateway",
    "How many calls a second does one gateway process answer over HTTP?",
    (RATE, CPU),
    {
        "bare app": _served(lambda port: python("benchmarks.bare_app", port), worker=False),
        "gateway": _served(
            lambda port: python("toolspan", "gateway", "--port", port, "--log-level", "error"), worker=True
        ),
    },
    (
        Goal(
            "rate beside an app on the same server that answers at once",
            Measure("gateway", "rate"),
            (Measure("bare app", "rate"),),
            at_least=0.4,
        ),
    ),
    note=f"`POST /v1/tools/echo/calls` over {CONNECTIONS} connections that stay open, with one worker behind the "
    "gateway. CPU is the server's process alone, the parsing of HTTP included.",
)
