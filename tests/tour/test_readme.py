"""What the README shows is run as it stands there: its files, and what is typed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.commands import Shell, ended, line

if TYPE_CHECKING:
    from tests.cli.commands import Ended
    from tests.support.plane import Plane

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
PLACE: Final = "http://127.0.0.1:8080"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


FILES: Final = {text.partition("\n")[0].removeprefix("# "): text for text in _blocks("python")}
TYPED: Final = [shlex.split(typed, comments=True) for block in _blocks("sh") for typed in block.splitlines()]

FOLLOWING: Final = next(command for command in TYPED if "text/event-stream" in " ".join(command))


@pytest.fixture
def shell(plane: Plane, tmp_path: Path) -> Shell:
    """A folder with the files of the README, where its Redis is set."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return Shell.of(tmp_path, plane.settings)


async def _ran(shell: Shell, *command: str) -> Ended:
    async with shell.program(*command) as process:
        return await ended(process)


async def test_what_is_typed_in_the_readme_works(shell: Shell) -> None:
    """A worker and a gateway serve; everything else is asked of them."""
    serving = {command[1]: command[1:] for command in TYPED if command[1] in {"worker", "gateway"}}
    asked = [
        command
        for command in TYPED
        if command[0] in {"toolspan", "curl"} and command[1] not in serving and command != FOLLOWING
    ]
    async with (
        shell.started(*serving["worker"]) as worker,
        shell.started(*serving["gateway"], "--port", "0") as gateway,
    ):
        started = await line(worker, "worker.started")
        port = (await line(gateway, "gateway.started"))["port"]
        entry_id = (await shell.run("call", "greet", '{"name": "Ada"}', "--json")).json["entry_id"]
        ends = {
            command[1] if command[0] == "toolspan" else "curl": await _ran(shell, *_typed(command, port, entry_id))
            for command in asked
            if shutil.which("curl") or command[0] != "curl"
        }
        for process in (worker, gateway):
            process.send_signal(signal.SIGTERM)
        codes = [(await ended(process)).code for process in (worker, gateway)]

    assert started["tools"] == ["greet"]
    assert codes == [0, 0]
    # A server for tests is not configured for work, and the doctor says so.
    assert ends.pop("doctor").code == 1
    # Redis keeps nothing of a call that was answered.
    assert {name: done.code for name, done in ends.items() if done.code} == {"explain": 1}
    assert ends["call"].json == "Hello Ada! "
    if "curl" in ends:
        assert json.loads(ends["curl"].out)["result"] == "Hello Ada! "


async def test_progress_is_followed_as_the_readme_says(shell: Shell) -> None:
    async with (
        shell.started("worker", "--tools", "counting") as worker,
        shell.started("gateway", "--port", "0") as gateway,
    ):
        await line(worker, "worker.started")
        port = (await line(gateway, "gateway.started"))["port"]
        followed = await _ran(shell, sys.executable, "follow.py")
        events = await _ran(shell, *_typed(FOLLOWING, port, "")) if shutil.which("curl") else None
        for process in (worker, gateway):
            process.send_signal(signal.SIGTERM)
            await ended(process)

    assert (followed.code, followed.err) == (0, "")
    assert followed.out == "{'step': 1}\n{'step': 2}\n{'step': 3}\n3\n"
    if events is not None:
        assert re.findall("^event: (.*)$", events.out, re.MULTILINE) == [*["progress"] * 3, "reply"]


def _typed(command: list[str], port: int, entry_id: str) -> list[str]:
    names = {"CALL_OR_ENTRY_ID": entry_id, "toolspan": str(Path(sys.executable).with_name("toolspan"))}
    return [names.get(part, part.replace(PLACE, f"http://127.0.0.1:{port}")) for part in command]


async def test_the_programs_of_the_readme_run(shell: Shell) -> None:
    async with shell.started("worker", "--tools", "greetings") as worker:
        await line(worker, "worker.started")
        asked, blocking = [await _ran(shell, sys.executable, name) for name in ("ask.py", "ask_sync.py")]
        worker.send_signal(signal.SIGTERM)
        await ended(worker)

    assert (asked.code, asked.err, blocking.code, blocking.err) == (0, "", 0, "")
    assert asked.out.startswith("Hello Ada!  Timings(queue=")
    assert blocking.out == "Hello Ada! \n"


async def test_the_test_of_the_readme_passes(shell: Shell) -> None:
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_greetings.py")
    # Warnings of pytest itself are not ours.
    async with shell.program(*command, PYTHONWARNINGS="default") as process:
        done = await ended(process)

    assert (done.code, "1 passed" in done.out) == (0, True), done.out + done.err


def test_nothing_of_the_readme_is_left_out() -> None:
    makefile = (ROOT / "Makefile").read_text()

    assert set(FILES) == {"greetings.py", "counting.py", "ask.py", "ask_sync.py", "follow.py", "test_greetings.py"}
    assert {command[0] for command in TYPED} == {"make", "pip", "toolspan", "curl"}
    assert all(re.search(rf"^{command[1]}:", makefile, re.MULTILINE) for command in TYPED if command[0] == "make")
    extras = set(metadata("toolspan").get_all("Provides-Extra") or ())
    assert extras == {"all", "embedded", "fast", "gateway"}
    assert all(f"`{extra}`" in README for extra in extras)


def test_every_page_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)

    assert {"docs/settings.md", "docs/telemetry.md"} < set(links)
    assert [link for link in links if not (ROOT / link).exists()] == []
