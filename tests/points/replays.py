"""What goes on while an operator's replay dies: each scenario takes it to points of its own."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from tests.points.stage import Stage
    from tests.support.proxy import Proxy

_SECONDS: Final = 30.0


class Replaying:
    """A command that puts dead letters back."""

    options: ClassVar[tuple[str, ...]] = ()
    worker: ClassVar[bool] = False
    """Whether one serves what is replayed."""
    proxied: ClassVar[bool] = False
    proxy: Proxy | None = None
    """Through which the command that dies comes to Redis, where the scenario says so."""

    def __init__(self, letters: list[str]) -> None:
        self.letters = letters
        """The ids of those that are put back."""

    def arguments(self) -> list[str]:
        """Say which are meant."""
        return ["--all-matching", "--since", "9999d"]

    async def act(self, stage: Stage) -> None:
        """Wait for its end; it may be early."""
        await asyncio.wait({stage.worker.ended}, timeout=_SECONDS)


class All(Replaying):
    """All of them, of which one is refused."""


class Named(Replaying):
    """Those that are named: by their own id, their entry's and their call's; and one that is none."""

    def arguments(self) -> list[str]:
        return [self.letters[0], "9-1", "call 2", "no such letter", "5-5", *self.letters[3:]]


class Rehearsed(Replaying):
    """It is only told what would be done."""

    options = ("--dry-run",)


class Followed(Replaying):
    """It waits for the ends of what it has put back."""

    options = ("--wait",)
    worker = True


class Cut(Followed):
    """Its connection breaks while it waits."""

    proxied = True

    async def act(self, stage: Stage) -> None:
        assert self.proxy
        self.proxy.cut_before(b"XREAD")
        await super().act(stage)


class Stopped(Replaying):
    """It is told to end in the middle of one."""

    options = ("--rate", "50")
    proxied = True

    async def act(self, stage: Stage) -> None:
        assert self.proxy
        proxy = self.proxy
        proxy.hold(self.letters[2].encode())
        await stage.sees(lambda: proxy.holds)
        stage.worker.signal(signal.SIGTERM)
        await stage.sees(lambda: stage.was_at("finished", "asyncio.wait"))
        proxy.let_go()
        await super().act(stage)


REPLAYING: Final = (All, Named, Rehearsed, Followed, Cut, Stopped)
