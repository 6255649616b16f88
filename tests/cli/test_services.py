"""gateway and monitor: how they begin, and how they end."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import httpx

from tests.cli.commands import ended, line
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from tests.cli.commands import Shell
    from tests.support.plane import Plane


async def test_a_gateway_serves_until_sigterm(shell: Shell) -> None:
    async with shell.started("gateway", "--port", "0") as process:
        serving = await line(process, "gateway.started")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{serving['port']}") as http:
            live = await http.get("/livez")
        process.send_signal(signal.SIGTERM)
        done = await ended(process)

    assert live.status_code == 200
    assert (done.code, done.out, [json.loads(said)["event"] for said in done.err.splitlines()]) == (
        0, "", ["gateway.stopped"],
    )  # fmt: skip


async def test_a_file_of_tokens_that_cannot_be_used_is_said_in_one_sentence(shell: Shell) -> None:
    path = shell.folder / "tokens.json"
    path.write_text("[{}]")
    code, sentence = (await shell.run("gateway", "--port", "0", TOOLSPAN_TOKENS_FILE=str(path))).told()

    assert code == 2
    assert sentence.startswith(f"TOOLSPAN_TOKENS_FILE, {path}: entry 1, name: ")


async def test_a_port_that_is_taken_is_said_in_one_sentence(shell: Shell) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken:
        code, sentence = (await shell.run("gateway", "--port", str(port))).told()

    assert code == 1
    assert sentence == f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port"


async def test_an_address_that_is_not_ours_is_said_in_one_sentence(shell: Shell) -> None:
    code, sentence = (await shell.run("gateway", "--host", "nobody.invalid", "--port", "0")).told()

    assert (code, sentence.startswith("cannot listen on nobody.invalid:0: ")) == (1, True)


async def test_a_monitor_reports_until_sigterm_and_makes_room_for_another(plane: Plane, shell: Shell) -> None:
    async with shell.started("monitor") as process:
        started = await line(process, "monitor.started")
        await eventually(lambda: plane.redis.exists(plane.keys.monitor), because="it is elected")
        process.send_signal(signal.SIGTERM)
        done = await ended(process)

    [stopped] = [json.loads(said) for said in done.err.splitlines()]
    assert (done.code, done.out, stopped["event"]) == (0, "", "monitor.stopped")
    assert started["instance"] == stopped["instance"]
    assert not await plane.redis.exists(plane.keys.monitor)
