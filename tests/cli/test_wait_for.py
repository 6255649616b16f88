"""wait-for: what containers start after."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import NOBODY, Ended, ended, line
from toolspan.errors import SettingsError, ToolspanError
from toolspan.operate.readiness import wait_for
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cli.commands import Shell
    from tests.support.plane import Plane

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Answers:
    """A listener that gives one answer to whoever connects, and tells what it has seen."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked = asyncio.Event()
        self.left_after: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = asyncio.get_running_loop().time()
        await reader.read(1)
        if self.answer is not None:
            writer.write(self.answer)
        else:
            self.asked.set()
            while await reader.read(1000):
                pass
            if not self.left_after.done():
                self.left_after.set_result(asyncio.get_running_loop().time() - began)
        self.asked.set()
        writer.close()


@asynccontextmanager
async def _listening(answer: bytes | None) -> AsyncIterator[Answers]:
    answers = Answers(answer)
    listener = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    answers.port = listener.sockets[0].getsockname()[1]
    try:
        yield answers
    finally:
        listener.close()


async def test_everything_that_answers_is_waited_for_at_once(lonely: Shell, server: EmbeddedServer) -> None:
    async with _listening(OK) as http:
        urls = [server.url, server.tcp_url, f"tcp://127.0.0.1:{server.port}", f"http://127.0.0.1:{http.port}/readyz"]
        done = await lonely.run("wait-for", *urls)

    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize(
    "url",
    [NOBODY, "unix:///no/such/socket", "tcp://127.0.0.1:1", "http://127.0.0.1:1/readyz", "https://127.0.0.1:1/readyz"],
)
async def test_what_does_not_answer_is_named(url: str) -> None:
    with pytest.raises(ToolspanError) as given_up:
        await wait_for([url], within=0)

    assert str(given_up.value).startswith(f"{url} does not answer: ")


async def test_only_what_does_not_answer_is_named(lonely: Shell, server: EmbeddedServer) -> None:
    async with _listening(BUSY) as busy, _listening(b"-ERR no HTTP here\r\n") as strange:
        urls = [f"http://127.0.0.1:{one.port}/" for one in (busy, strange)]
        code, sentence = (await lonely.run("wait-for", server.url, *urls, NOBODY, "--timeout", "1")).told()

    assert code == 3
    assert server.url not in sentence
    assert [url for url in (*urls, NOBODY) if f"{url} does not answer: " not in sentence] == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "127.0.0.1:6379",
        "http://[half/",
        "http:///readyz",
        "http://127.0.0.1:port/",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "redis://127.0.0.1:port/0",
        "redis://127.0.0.1:6379/0?socket_timeout=soon",
    ],
)
async def test_nothing_is_waited_for_that_can_never_answer(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        await wait_for([url], within=60)

    assert str(refused.value).startswith(f"{url} cannot be waited for: ")


async def test_what_cannot_be_waited_for_is_wrong_usage(lonely: Shell) -> None:
    code, sentence = (await lonely.run("wait-for", NOBODY, "ftp://127.0.0.1/")).told()

    assert (code, sentence.startswith("ftp://127.0.0.1/ cannot be waited for: ")) == (2, True)


async def test_no_password_is_shown_of_what_does_not_answer(lonely: Shell) -> None:
    done = await lonely.run("wait-for", "redis://ada:s3cret@127.0.0.1:1/0", "--timeout", "0")

    assert done.code == 3
    assert "redis://ada:***@127.0.0.1:1/0 does not answer: " in done.sentence
    assert "s3cret" not in done.err


async def test_no_password_is_shown_in_what_a_library_says(lonely: Shell) -> None:
    done = await lonely.run("wait-for", "http://ada:s3cret@127.0.0.1/readyz", "--timeout", "0")

    assert done.code == 1
    assert "http://ada:***@127.0.0.1/readyz does not answer: " in done.sentence
    assert "s3cret" not in done.err


async def test_an_endless_timeout_is_wrong_usage(lonely: Shell) -> None:
    done = await lonely.run("wait-for", NOBODY, "--timeout", "nan")

    assert (done.code, done.out) == (2, "")
    assert "Invalid value for '--timeout'" in done.err


@pytest.mark.parametrize("kind", ["http", "redis"])
async def test_who_takes_the_call_and_says_nothing_is_not_waited_for_longer_than_said(lonely: Shell, kind: str) -> None:
    async with _listening(None) as silent:
        done = await lonely.run("wait-for", f"{kind}://127.0.0.1:{silent.port}", "--timeout", "0.2")
        waited = await silent.left_after

    assert done.code == (3 if kind == "redis" else 1)
    assert "no answer within" in done.sentence
    # Less than a whole answer may take when there is time for it.
    assert waited < 1.5


async def test_what_comes_up_later_is_waited_for(lonely: Shell) -> None:
    redis = await asyncio.to_thread(EmbeddedServer)
    try:
        async with _listening(BUSY) as http:
            urls = (f"http://127.0.0.1:{http.port}/", redis.url)
            async with lonely.started("wait-for", *urls) as process:
                await http.asked.wait()
                await asyncio.to_thread(redis.start)
                http.answer = OK
                done = await ended(process)
    finally:
        await asyncio.to_thread(redis.stop)

    assert (done.code, done.err) == (0, "")


async def test_waiting_can_be_given_up(lonely: Shell) -> None:
    # Several, for the moment matters: what a handler raises is lost in a loop that is about to wait.
    ends = await asyncio.gather(*(_given_up(lonely) for _ in range(5)))

    assert {(done.code, done.out, done.err) for done in ends} == {(0, "", "")}


async def _given_up(lonely: Shell) -> Ended:
    async with (
        _listening(BUSY) as http,
        lonely.started("wait-for", f"http://127.0.0.1:{http.port}/", PYTHONFAULTHANDLER="1") as process,
    ):
        gone = asyncio.ensure_future(ended(process))
        asked = asyncio.ensure_future(http.asked.wait())
        # One that ends before it has asked anybody says why.
        await asyncio.wait({gone, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not gone.done():
            process.send_signal(signal.SIGTERM)
        done, _ = await asyncio.wait({gone}, timeout=60)
        if not done:
            # It says where it hangs.
            process.send_signal(signal.SIGABRT)
        return await gone


async def test_a_worker_is_waited_for_until_it_is_ready(plane: Plane, shell: Shell) -> None:
    options = ("--tools", "toolspan.tools.builtin", "--health-port", "0")
    async with shell.started("worker", *options) as worker:
        port = (await line(worker, "health.started"))["port"]
        done = await shell.run("wait-for", f"http://127.0.0.1:{port}/readyz")
        registered = await plane.beating()
        worker.send_signal(signal.SIGTERM)
        gone = await ended(worker)

    assert (done.code, done.out, done.err) == (0, "", "")
    assert len(registered) == 1
    assert gone.code == 0
