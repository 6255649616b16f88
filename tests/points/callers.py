"""What goes on while a gateway dies: each scenario takes it to points of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.points.stage import Stage
    from tests.support.proxy import Proxy

IMPATIENT: Final = "tests.points.caller:impatient"
OWN: Final = "tests.points.caller:main"
ACCEPTED: Final = 202
_SECONDS: Final = 60.0
_CALL_MS: Final = 120_000
"""No call's time is over unless that is what it is about: to ask again would have it run again, as promised."""


@dataclass(slots=True)
class Asked:
    """One call as its caller asked for it; *answer* is None if none came."""

    tool: str
    body: dict[str, Any]
    file: str
    answer: httpx.Response | None = None

    @property
    def keyed(self) -> bool:
        return "idempotency_key" in self.body

    @property
    def taken_as(self) -> str | None:
        """The id under which it was accepted or has succeeded; None if its caller cannot tell."""
        if self.answer is None:
            return None
        text = self.answer.text
        if self.answer.headers["content-type"].startswith("text/event-stream"):
            text = text.rpartition("event: reply\ndata: ")[2]
        told = json.loads(text or "{}")
        taken = self.answer.status_code == ACCEPTED or told.get("status") == "ok"
        return str(told["id"]) if taken else None


class Caller:
    """Asks the gateway that dies, and after that another one, as whoever got no answer does."""

    def __init__(self, stage: Stage, http: httpx.AsyncClient, other: str, number: int) -> None:
        self.asked: list[Asked] = []
        self.url = ""
        """Where the gateway that dies listens; empty if it never does."""
        self._stage = stage
        self._http = http
        self._number = number
        self._other = other

    def call(self, tool: str, name: str, *, key: bool, **body: Any) -> Asked:
        """Make a call with a file of its own; *key*: with an idempotency key."""
        args = {"path": str(self._stage.file(name)), **body.pop("args", {})}
        if "release" in args:
            args["release"] = str(self._stage.file(args["release"]))
        if key:
            body["idempotency_key"] = f"{self._number} {name}"
        made = Asked(tool, {"args": args, "timeout_ms": _CALL_MS, **body}, name)
        self.asked.append(made)
        return made

    async def ask(self, tool: str, name: str, *, key: bool = True, events: bool = False, **body: Any) -> Asked:
        """Ask for it, and wait for the answer, if there will be any."""
        asked = self.call(tool, name, key=key, **body)
        await self.send(asked, events=events)
        return asked

    async def send(self, asked: Asked, *, events: bool = False) -> None:
        """Send it to the gateway that dies."""
        with suppress(httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol):
            asked.answer = await self._post(self.url, asked, events=events)

    async def ask_the_other(self, asked: Asked) -> httpx.Response:
        """Send it to the one that lives; progress is of no interest."""
        return await self._post(self._other, asked, detach=False)

    async def _post(self, url: str, asked: Asked, *, events: bool = False, **body: Any) -> httpx.Response:
        headers = {"accept": "text/event-stream"} if events else {}
        address = f"{url}/v1/tools/{asked.tool}/calls"
        return await self._http.post(address, json={**asked.body, **body}, headers=headers, timeout=_SECONDS)


class Asking:
    """Calls of one kind or another, and what goes on meanwhile."""

    program: ClassVar[str] = IMPATIENT
    settings: ClassVar[Mapping[str, Any]] = {}
    variables: ClassVar[Mapping[str, str]] = {}
    proxied: ClassVar[bool] = False
    proxy: Proxy | None = None

    async def act(self, stage: Stage, caller: Caller) -> None:
        """Ask, and see to it that all is answered; the gateway may die at any time meanwhile."""
        raise NotImplementedError

    async def afterwards(self, stage: Stage) -> None:
        """Take away what is in the way of the end."""
        stage.release("go")


class Plain(Asking):
    """Each way to ask, with a key and without."""

    variables: ClassVar[Mapping[str, str]] = {"UNKNOWN_SCRIPTS": "1"}

    async def act(self, stage: Stage, caller: Caller) -> None:
        for key in (True, False):
            if stage.worker.ended.done():
                return
            way = f"key {key}"
            await caller.ask("marked", f"plain {way}", key=key)
            await caller.ask("tells", f"followed {way}", key=key, events=True, args={"steps": 2})
            await caller.ask("marked", f"silent {way}", key=key, events=True, args={"seconds": 0.1})
            await caller.ask("marked", f"detached {way}", key=key, detach=True)


class Bounded(Plain):
    """The same where the backlog has a limit."""

    variables: ClassVar[Mapping[str, str]] = {}
    settings: ClassVar[Mapping[str, Any]] = {"backlog_limit": 10_000}


class Unconfirmed(Asking):
    """Each append waits for a replica that there is not."""

    settings: ClassVar[Mapping[str, Any]] = {"wait_replicas": 1}

    async def act(self, stage: Stage, caller: Caller) -> None:
        del stage
        for key in (True, False):
            await caller.ask("marked", f"unconfirmed {key}", key=key)


class Together(Asking):
    """Calls that come while another one is sent, whose connection breaks before the server sees it."""

    proxied = True
    variables: ClassVar[Mapping[str, str]] = {"UNKNOWN_SCRIPTS": "1"}

    async def act(self, stage: Stage, caller: Caller) -> None:
        assert self.proxy
        proxy = self.proxy
        first = caller.call("marked", "first", key=False, timeout_ms=1_000)
        proxy.hold(f"{stage.file(first.file)}".encode())
        sending: list[asyncio.Task[Any]] = [asyncio.create_task(caller.send(first))]
        await stage.sees(lambda: proxy.holds)
        sending += [asyncio.create_task(caller.ask("marked", f"together {n}", key=False)) for n in range(2)]
        await stage.sees(lambda: stage.was_at("Appends.run", "waiting.answer"))
        proxy.cut_all()
        proxy.let_go()
        await asyncio.gather(*sending)


class Waiting(Asking):
    """Many wait at once, two of them for one call."""

    async def act(self, stage: Stage, caller: Caller) -> None:
        args = {"release": "go"}
        first, second = [caller.call("until", f"waits {key}", key=key, args=args) for key in (True, False)]
        waiting = [asyncio.create_task(caller.send(one)) for one in (first, second)]
        await stage.began(first.file, second.file)
        # Each of them joins what runs.
        joined = [asyncio.create_task(caller.send(first)), asyncio.create_task(caller.ask_the_other(first))]
        await stage.sees(lambda: stage.was_at("Ear.reply"))
        await stage.sees(lambda: stage.was_at("Channels.next", "PING"))
        stage.release("go")
        await asyncio.gather(*waiting, *joined)


class Joining(Asking):
    """Calls that run already, for somebody else has sent them."""

    async def act(self, stage: Stage, caller: Caller) -> None:
        calls = [caller.call("until", f"joined {n}", key=True, args={"release": f"go {n}"}) for n in range(3)]
        others = [asyncio.create_task(caller.ask_the_other(one)) for one in calls]
        await stage.began(*(one.file for one in calls))
        detached = {**calls[2].body, "detach": True}
        await caller.send(Asked("until", detached, calls[2].file))
        joining = [asyncio.create_task(caller.send(calls[0]))]
        await stage.sees(lambda: stage.was_at("Listener._hear"))
        # It listens already, and has to listen to one more.
        joining.append(asyncio.create_task(caller.send(calls[1], events=True)))
        await stage.sees(lambda: stage.was_at("Listener.ear", "subscribe"))
        for number in range(3):
            stage.release(f"go {number}")
        await asyncio.gather(*others, *joining)

    async def afterwards(self, stage: Stage) -> None:
        stage.release(*(f"go {number}" for number in range(3)))


class Hanging(Asking):
    """Callers that hang up, and some whose time is over."""

    async def act(self, stage: Stage, caller: Caller) -> None:
        args = {"release": "go"}
        leaving = []
        for events in (False, True):
            for key in (False, True):
                asked = caller.call("until", f"leaves {events} {key}", key=key, args=args)
                leaving.append(asyncio.create_task(caller.send(asked, events=events)))
        await stage.began(*(one.file for one in caller.asked))
        await caller.ask("until", "late", key=False, args=args, timeout_ms=50)
        for one in leaving:
            one.cancel()
        await asyncio.wait(leaving)
        await stage.sees(lambda: stage.was_at("Leaving._tell"))
        stage.release("go")


class HangingUpEarly(Asking):
    """A caller hangs up before his call is accepted."""

    proxied = True

    async def act(self, stage: Stage, caller: Caller) -> None:
        assert self.proxy
        proxy = self.proxy
        asked = caller.call("marked", "early", key=False)
        proxy.hold(f"{stage.file(asked.file)}".encode())
        asking = asyncio.create_task(caller.send(asked, events=True))
        await stage.sees(lambda: proxy.holds)
        asking.cancel()
        await stage.sees(lambda: stage.was_at("CallStream.begin", "self.leave"))
        proxy.let_go()


class HangingUpLate(Asking):
    """The gateway is told to go when a caller has just hung up."""

    proxied = True

    async def act(self, stage: Stage, caller: Caller) -> None:
        assert self.proxy
        proxy = self.proxy
        asking = asyncio.create_task(caller.ask("until", "late", key=False, args={"release": "go"}))
        await stage.began("late")
        proxy.hold(b":cancel:")
        asking.cancel()
        await stage.sees(lambda: proxy.holds)
        stage.worker.signal(signal.SIGTERM)
        await stage.sees(lambda: stage.was_at("Leaving.finish"))
        proxy.let_go()


class Stopping(Asking):
    """The gateway is told to go: one call ends in time, one does not."""

    settings: ClassVar[Mapping[str, Any]] = {"drain_seconds": 0.2}

    async def act(self, stage: Stage, caller: Caller) -> None:
        args = {"release": "go"}
        waiting = [asyncio.create_task(caller.ask("until", f"{key}", key=key, args=args)) for key in (True, False)]
        # Its caller leaves in the same moment.
        leaving = asyncio.create_task(caller.ask("until", "leaves", key=False, args=args))
        await stage.began("True", "False", "leaves")
        stage.worker.signal(signal.SIGTERM)
        leaving.cancel()
        await asyncio.wait({stage.worker.ended}, timeout=_SECONDS)
        await asyncio.gather(*waiting)
        stage.release("go")


class LostAnswers(Asking):
    """Answers of Redis are lost, and then all connections for a while."""

    proxied = True

    async def act(self, stage: Stage, caller: Caller) -> None:
        assert self.proxy
        for key in (True, False):
            name = f"lost {key}"
            self.proxy.cut_after(f"{stage.file(name)}".encode())
            await caller.ask("marked", name, key=key)
        first = caller.call("until", "joined", key=True, args={"release": "go"})
        other = asyncio.create_task(caller.ask_the_other(first))
        await stage.began("joined")
        joining = asyncio.create_task(caller.send(first))
        waiting = asyncio.create_task(caller.ask("until", "waits", key=False, args={"release": "go"}))
        await stage.began("waits")
        await stage.sees(lambda: stage.was_at("Listener._hear"))
        self.proxy.refusing = True
        self.proxy.cut_all()
        await stage.sees(lambda: stage.was_at("Listener._read", "asyncio.sleep"))
        await stage.sees(lambda: stage.was_at("Replies._read", "asyncio.sleep"))
        self.proxy.refusing = False
        stage.release("go")
        await asyncio.gather(other, joining, waiting)


class OwnProgram(Asking):
    """A program with a client of its own."""

    program = OWN

    async def act(self, stage: Stage, caller: Caller) -> None:
        del caller
        await asyncio.wait({stage.worker.ended}, timeout=_SECONDS)

    @staticmethod
    def calls(caller: Caller) -> dict[str, str]:
        """Tell it what to send."""
        told = []
        for way in ("call", "send", "stream"):
            for key in (True, False):
                asked = caller.call("tells", f"{way} {key}", key=key, args={"steps": 1})
                told.append((way, asked.tool, asked.body["args"], asked.body.get("idempotency_key")))
        return {"CALLS": json.dumps(told)}


ASKING: Final = (
    *(Plain, Bounded, Unconfirmed, Together, Waiting, Joining, Hanging, HangingUpEarly, HangingUpLate),
    *(Stopping, LostAnswers, OwnProgram),
)
