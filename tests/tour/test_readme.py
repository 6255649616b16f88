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
from tests.tour.pages import ROOT, blocks

if TYPE_CHECKING:
    from tests.cli.commands import Ended
    from tests.support.plane import Plane

README: Final = (ROOT / "README.md").read_text()
PLACE: Final = "http://127.0.0.1:8080"


BLOCKS: Final = blocks(README)
FILES: Final = {block.file: block.text for block in BLOCKS if block.language == "python"}
TYPED: Final = [
    shlex.split(typed, comments=True) for block in BLOCKS if block.language == "sh" for typed in block.commands
]


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
    asked = [command for command in TYPED if command[0] in {"toolspan", "curl"} and command[1] not in serving]
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


def test_nothing_of_the_readme_is_left_out() -> None:
    makefile = (ROOT / "Makefile").read_text()

    assert set(FILES) == {"greetings.py", "ask.py", "ask_sync.py"}
    assert {command[0] for command in TYPED} == {"make", "pip", "toolspan", "curl"}
    assert all(re.search(rf"^{command[1]}:", makefile, re.MULTILINE) for command in TYPED if command[0] == "make")
    extras = set(metadata("toolspan").get_all("Provides-Extra") or ())
    assert extras == {"all", "embedded", "fast", "gateway"}
    assert all(f"`{extra}`" in README for extra in extras)


def test_every_page_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)

    assert {"docs/settings.md", "docs/telemetry.md"} < set(links)
    assert [link for link in links if not (ROOT / link).exists()] == []
