"""The command line as users type it: a process for each command, and what it said."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shlex
import sys
import termios
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support import preloaded
from tests.support.variables import not_ours, saying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from toolspan.settings import Settings

    Running = asyncio.subprocess.Process | preloaded.AsyncProcess

NOBODY: Final = "redis://127.0.0.1:1/0"
"""Where no Redis is."""


@dataclass(frozen=True)
class Ended:
    """A command that has come to its end."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence on stderr; it is an error if anything stands beside it."""
        assert self.err.startswith("toolspan: "), self.err
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("toolspan: ").strip()

    @property
    def json(self) -> Any:
        """What it printed for machines."""
        assert self.out.count("\n") == 1, self.out + self.err
        return json.loads(self.out)

    def told(self) -> tuple[int, str]:
        """Its exit code and its one sentence."""
        return self.code, self.sentence


class Shell:
    """A folder and variables, in which commands are typed."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = {**not_ours(), "PYTHONWARNINGS": "error", **variables}

    @classmethod
    def of(cls, folder: Path, settings: Settings) -> Shell:
        """Set what *settings* say."""
        return cls(folder, saying(settings))

    async def run(self, *arguments: str, **variables: str) -> Ended:
        """Type a command, and wait for its end."""
        async with self.started(*arguments, **variables) as process:
            return await ended(process)

    async def each(self, *commands: str, **variables: str) -> dict[str, Ended]:
        """Type several commands, each whole, in as many windows; give the end of each."""
        ends = await asyncio.gather(*(self.run(*shlex.split(command), **variables) for command in commands))
        return dict(zip(commands, ends, strict=True))

    async def shown(self, *arguments: str, columns: int) -> str:
        """Type a command in a terminal so many columns wide, and give what that shows."""
        terminal, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toolspan", *arguments),
            cwd=self.folder,
            env={**self.variables, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        parts: list[bytes] = []
        # A terminal that nobody writes to any more ends with an error.
        with suppress(OSError):
            while part := await asyncio.to_thread(os.read, terminal, 65_536):
                parts.append(part)
        os.close(terminal)
        await process.wait()
        return b"".join(parts).decode().replace("\r\n", "\n")

    @asynccontextmanager
    async def started(self, *arguments: str, **variables: str) -> AsyncIterator[Running]:
        """Type a command that goes on; it does not outlive the block."""
        environment = {**self.variables, **variables}
        if not preloaded.fits(environment):
            async with self.program(sys.executable, "-m", "toolspan", *arguments, **variables) as process:
                yield process
            return
        forked = await preloaded.start_with_pipes(arguments, environment=environment, folder=self.folder)
        try:
            yield forked
        finally:
            forked.kill()
            await forked.communicate()

    @asynccontextmanager
    async def program(self, *command: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start any program here."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env={**self.variables, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def ended(process: Running) -> Ended:
    """Wait for the end of *process*."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def line(process: Running, event: str) -> dict[str, Any]:
    """Wait for the log line of an event."""
    assert process.stderr is not None
    seen = []
    async for raw in process.stderr:
        seen.append(raw.decode())
        if raw.startswith(b"{"):
            found: dict[str, Any] = json.loads(raw)
            if found["event"] == event:
                return found
    message = f"it ended without {event}:\n{''.join(seen)}"
    raise AssertionError(message)
