"""toolspan.testing, used as the tests of a user would use it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.support.eventually import eventually
from toolspan import Settings, StoreError, ToolClient, ToolDefinitionError, ToolError, ToolspanError, tool
from toolspan.testing import EmbeddedServer, Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def settings(embedded: EmbeddedServer) -> Settings:
    return Settings(redis_url=embedded.url, prefix="kit")


@tool
async def double(number: int) -> int:
    return number * 2


@tool
def fails() -> None:
    raise LookupError


def alive(pid: int) -> bool:
    """Whether the process runs, and is not only the remains of one that ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_tool_is_called_and_what_it_reports_is_looked_at(settings: Settings) -> None:
    recorder = Recorder(settings.keys)
    async with (
        running_worker(double, fails, settings=settings, probe=recorder.probe),
        ToolClient(settings, probe=recorder.probe) as tools,
    ):
        reply = await tools.call("double", {"number": 4})
        with pytest.raises(ToolError, match="LookupError"):
            await tools.call("fails")

    assert reply.result == 8
    assert recorder.total("toolspan.calls", gen_ai_tool_name="double", toolspan_outcome="ok") == 1
    assert recorder.total("toolspan.calls", toolspan_outcome="tool_error") == 1
    assert "toolspan.calls" in recorder.metrics
    assert {"execute_tool double", "execute_tool fails"} <= {span.name for span in recorder.spans}
    assert "gen_ai.execute_tool.exception" in dict(recorder.events)


async def test_a_whole_registry_and_functions_beside_it_are_served(settings: Settings) -> None:
    registry = Registry.load(["toolspan.tools.builtin.add", "toolspan.tools.builtin.echo"])
    async with running_worker(registry, double, settings=settings), ToolClient(settings) as tools:
        served = {one.name for one in await tools.tools()}

    assert served == {"add", "echo", "double"}


async def test_a_worker_leaves_nothing_behind(settings: Settings) -> None:
    async with running_worker(double, settings=settings, name="left"):
        pass
    with redis.Redis.from_url(settings.redis_url) as client:
        names = [name for name in client.scan_iter("kit:worker:*") if b"left-" in name]

        assert names == []
        assert client.zcard(settings.keys.workers) == 0


async def test_a_worker_that_cannot_start_raises_instead_of_hanging(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "unix:///nowhere/at/all.sock"})
    with pytest.raises(StoreError, match="No such file"):
        async with running_worker(double, settings=nowhere):
            pytest.fail("the block was entered")


async def test_a_function_that_is_no_tool_is_told_of(settings: Settings) -> None:
    with pytest.raises(ToolDefinitionError, match="is not a tool"):
        async with running_worker(lambda: None, settings=settings):
            pytest.fail("the block was entered")


async def test_what_a_test_raises_is_what_comes_out(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with running_worker(double, settings=settings):
            raise ZeroDivisionError


def test_a_server_leaves_neither_a_process_nor_a_folder() -> None:
    with EmbeddedServer() as server:
        pid, folder = server.pid, server.folder
        running = alive(pid), folder.is_dir()

    assert running == (True, True)
    assert (alive(pid), folder.exists()) == (False, False)
    with pytest.raises(ToolspanError, match="not running"):
        _ = server.pid


def test_two_servers_know_nothing_of_each_other() -> None:
    with EmbeddedServer() as one, EmbeddedServer(tcp=True) as other:
        with redis.Redis.from_url(one.url) as client:
            client.set("key", "one")
        with redis.Redis.from_url(other.tcp_url) as client:
            assert client.get("key") is None
            client.set("key", "other")
        with redis.Redis.from_url(other.url) as client:
            assert client.get("key") == b"other"


def test_a_server_that_keeps_its_data_has_it_after_a_crash() -> None:
    with EmbeddedServer(aof=True) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "kept")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"kept"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be reserved and served at once")
def test_the_port_of_a_server_is_its_own_from_when_it_is_chosen_to_when_it_is_stopped() -> None:
    server = EmbeddedServer(tcp=True)

    with pytest.raises(OSError, match="in use"):
        _bind(server.port)
    with server:
        server.kill()
        with pytest.raises(OSError, match="in use"):
            _bind(server.port)
        server.start()
        with redis.Redis.from_url(server.tcp_url) as client:
            assert client.ping()
    _bind(server.port)


def _bind(port: int) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))


def test_a_server_that_runs_is_not_started_again(embedded: EmbeddedServer) -> None:
    pid = embedded.pid
    with pytest.raises(ToolspanError, match="running already"):
        embedded.start()

    assert embedded.pid == pid


@pytest.mark.parametrize("binary", ["/nowhere/valkey-server", sys.executable])
def test_a_server_that_does_not_come_up_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, binary: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ToolspanError, match="did not start"), EmbeddedServer(binary=binary):
        pytest.fail("the block was entered")

    assert list(tmp_path.iterdir()) == []


def test_a_server_may_be_started_beside_other_threads() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
            assert client.ping()
    finally:
        go.set()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_a_server_does_not_outlive_a_test_run_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from toolspan.testing import EmbeddedServer as S; print(S().start().pid, flush=True); input()"
    )
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert run.stdout
    pid = int(await run.stdout.readline())
    was_alive = alive(pid)
    run.kill()
    await run.wait()

    assert was_alive
    await eventually(lambda: not alive(pid), because="the server ends with it")


def test_a_worker_without_a_client_leaves_stdout_alone() -> None:
    program = (
        "import asyncio\n"
        "from toolspan import Settings\n"
        "from toolspan.testing import EmbeddedServer, running_worker\n"
        "from toolspan.tools.builtin.echo import echo\n"
        "async def main():\n"
        "    with EmbeddedServer() as server:\n"
        "        async with running_worker(echo, settings=Settings(redis_url=server.url)):\n"
        "            pass\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == ""
    assert "worker.started" in done.stderr
