"""The load of the local stack, on a gateway and a worker of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from toolspan.demo.load import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Workers
    from toolspan.settings import Settings


async def test_the_load_calls_every_tool_well_and_badly_until_it_is_ended(
    workers: Workers, settings: Settings, tmp_path: Path
) -> None:
    worker = await workers.start("--tools", "toolspan.demo.tools")
    log = tmp_path / "gateway.log"
    variables = {f"TOOLSPAN_{name.upper()}": str(value) for name, value in settings if value is not None}
    gateway = _start("toolspan", "gateway", "--port", "0", log=log, variables=variables)
    try:
        line = await eventually(lambda: log.read_text().splitlines(), because="the gateway serves")
        url = f"http://127.0.0.1:{json.loads(line[0])['port']}"
        load = _start("toolspan.demo.traffic", "--gateway", url, "--rate", "200", log=tmp_path / "load.log")
        try:
            outcomes = {"ok", "tool_error", "invalid_arguments"}
            await eventually(
                lambda: outcomes <= _outcomes(worker.log),
                because=f"calls end in each of {outcomes}, of {len(KINDS)} kinds",
                within=30,
            )
            assert load.poll() is None
        finally:
            load.kill()
            load.wait()
    finally:
        gateway.kill()
        gateway.wait()


def _start(*command: str, log: Path, variables: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", *command], env=variables, stdout=out, stderr=out)


def _outcomes(log: Path) -> set[str]:
    """How calls have ended so far, by what their worker says: replies are gone once the gateway has read them."""
    return set(re.findall(r'"outcome": "(\w+)", "event": "call.settled"', log.read_text()))
