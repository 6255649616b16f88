"""A page of documentation, walked as a reader would: its files are written, its commands typed, its output compared."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.cli.commands import ended
from tests.support.eventually import eventually
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from tests.cli.commands import Ended, Running, Shell

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<mark>not run|exits|until|from): (?P<said>.*?) -->\n+)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_SERVICES: Final = re.compile(r"toolspan (worker|gateway|monitor)\b|python -m toolspan\.demo\.|python server\.py|.* &$")
_READY: Final = re.compile(r"worker\.started|gateway\.started|monitor\.started|listening|TOOLSPAN_REDIS_URL|serving")
_PORTS: Final = re.compile(r"\b(4318|8080|8081|8090)\b")
_VARIES: Final = (
    # In this order: ids, names of workers, numbers; and what lines are made of.
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{16,32}\b"), "ID"),
    (re.compile(r"[\w.]+(?:-[\w.]+)*-\d+-[0-9a-f]{4}\b"), "CONSUMER"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "#"),
    (re.compile(r"[█░▏│├└─\s]+"), " "),
)


@dataclass(frozen=True)
class Block:
    """What stands between two fences. *mark* and *said* are of the comment above it, if there is one."""

    language: str
    title: str
    text: str
    mark: str
    said: str

    @property
    def file(self) -> str:
        """Which file it is; nothing if it is none."""
        first = self.text.partition("\n")[0]
        return self.title or (first.removeprefix("# ") if re.fullmatch(r"# [\w.]+\.\w+", first) else "")

    @property
    def commands(self) -> list[str]:
        """What is typed."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: str) -> list[Block]:
    """Everything between fences, in order."""
    return [
        Block(found["language"], found["title"] or "", found["text"], found["mark"] or "", found["said"] or "")
        for found in _BLOCK.finditer(page)
    ]


def alike(text: str) -> str:
    """Text without what is different each time."""
    for varies, instead in _VARIES:
        text = varies.sub(instead, text)
    return text.strip()


@dataclass
class Service:
    """Something that goes on, and what it has printed so far."""

    command: str
    process: Running
    said: str = ""

    async def listen(self) -> None:
        """Take what it prints, to its end."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        await asyncio.gather(self._take(self.process.stdout), self._take(self.process.stderr))

    async def _take(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.said += line.decode()


class Walk:
    """One reader, in a folder of his own."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        path = f"{Path(sys.executable).parent}:{shell.variables['PATH']}"
        shell.variables.update(PATH=path, OTEL_BSP_SCHEDULE_DELAY="100")
        self._ports: dict[str, str] = {}
        self._services: list[tuple[Service, asyncio.Task[None]]] = []
        self._started = AsyncExitStack()
        self._printed = ""
        """By the last block."""
        self._seen = ""
        """Ever."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._started.aclose()

    async def end(self) -> list[str]:
        """End what goes on, the last first, as one does; name what does not end in order."""
        # Whoever receives telemetry last of all: the others have something to say at their end.
        receivers = [one for one in self._services if "demo.watch" in one[0].command]
        wrong = []
        for service, listening in [*(one for one in reversed(self._services) if one not in receivers), *receivers]:
            service.process.send_signal(signal.SIGTERM)
            await listening
            code = await service.process.wait()
            if code and service.command.startswith("toolspan "):
                wrong.append(f"{service.command}: {code}\n{service.said}")
        return wrong

    async def take(self, block: Block) -> None:
        """Do what a block asks for."""
        if block.mark == "not run":
            return
        if block.file:
            (self._shell.folder / block.file).write_text(block.text)
        elif block.language == "sh":
            await self._type(block)
        else:
            assert block.language == "text", f"nobody knows what to do with {block}"
            await self._compare(block)

    async def _type(self, block: Block) -> None:
        self._printed = ""
        for command in block.commands:
            line = _PORTS.sub(lambda port: self._port(port[0]), command)
            if variable := re.fullmatch(r"export (\w+)=(\S+)", line):
                self._shell.variables[variable[1]] = variable[2]
            elif _SERVICES.match(re.sub(r"^(\w+=\S+ )+", "", command)):
                await self._serve(line)
            elif block.mark == "until":
                await eventually(lambda line=line: self._prints(line, block.said), because=command)  # type: ignore[misc]
            else:
                done = await self._run(line)
                wanted = int(block.said) if block.mark == "exits" else 0
                assert done.code == wanted, f"{command}\n{done.out}{done.err}"

    async def _prints(self, line: str, wanted: str) -> bool:
        done = await self._run(line)
        return wanted in done.out

    async def _run(self, line: str) -> Ended:
        for name in _STAND_IN.keys() & set(re.findall(r"\w+", line)):
            line = line.replace(name, await self._stands_for(name))
        async with self._program(line) as process:
            done = await ended(process)
        self._printed += done.out + done.err
        self._seen += done.out + done.err
        return done

    @asynccontextmanager
    async def _program(self, line: str) -> AsyncIterator[Running]:
        """Start what is typed: a command of ours, or whatever a shell makes of it."""
        words = shlex.split(line)
        variables = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        # Warnings of pytest itself are not ours.
        quiet = {"PYTHONWARNINGS": "default"} if "pytest" in words else {}
        ours = words[0] == "toolspan" and not {">", "|"} & set(words)
        program = (
            self._shell.started(*words[1:], **variables)
            if ours
            else self._shell.program("bash", "-c", line if {">", "|"} & set(words) else f"exec {line}", **quiet)
        )
        async with program as process:
            yield process

    async def _stands_for(self, name: str) -> str:
        """What a reader puts in for a word in capitals: what was shown to him last, or is first in a list."""
        command, pattern = _STAND_IN[name]
        if not command:
            return str(re.findall(pattern, self._seen)[-1])
        async with self._program(command) as process:
            listed = await ended(process)
        return str(re.findall(pattern, listed.out)[0])

    async def _serve(self, line: str) -> None:
        line = line.removesuffix(" &")
        if line.endswith("toolspan gateway"):
            line += f" --port {self._port('8080')}"
        elif line.endswith("demo.watch"):
            line += f" --port {self._port('4318')}"
        service = Service(line, await self._started.enter_async_context(self._program(line)))
        self._services.append((service, asyncio.create_task(service.listen(), name=line)))
        await eventually(lambda: _READY.search(service.said), because=f"{line} serves", within=30)

    async def _compare(self, block: Block) -> None:
        wanted = [alike(line) for line in block.text.splitlines() if line.strip()]
        if block.mark == "from":
            [service] = [one for one, _ in self._services if block.said in one.command]
            await eventually(
                lambda: not _missing(wanted, service.said), because=f"{block.said} shows {wanted}", within=20
            )
            return
        missing = _missing(wanted, self._printed)
        assert not missing, f"{missing} not in\n{self._printed}"

    def _port(self, documented: str) -> str:
        return self._ports.setdefault(documented, str(free_port()))


_STAND_IN: Final = {
    "ENTRY_ID": ("", r'"entry_id":"([\d-]+)"'),
    "CALL_ID": ("", r'"id":"([\w-]+)"'),
    "DEAD_LETTER_ID": ("toolspan dlq ls --json", r'"id":"([\d-]+)"'),
    "FINGERPRINT": ("toolspan dlq ls --json", r'"fingerprint":"(\w+)"'),
    "CONSUMER": ("toolspan consumers --json", r'"consumer":"([^"]+)","state":"live"'),
}


def _missing(wanted: list[str], printed: str) -> list[str]:
    shown = [alike(line) for line in printed.splitlines()]
    return [line for line in wanted if not any(line in one for one in shown)]
