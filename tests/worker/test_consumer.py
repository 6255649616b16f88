"""ToolExecConsumer: programs that bring their own `process_fn` and reply by themselves."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import AsyncMock

import pytest
import redis.asyncio

from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan import SettingsError, StoreError, ToolExecConsumer
from toolspan.errors import LeaseMismatchError
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.testing import EmbeddedServer

LEASE_MS = 1_000


class Program:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []

    async def process(self, payload: dict[str, Any]) -> None:
        self.given.append(payload)


class Failing(Program):
    """Raises what it was made with, each time."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    async def process(self, payload: dict[str, Any]) -> None:
        await super().process(payload)
        raise self._error


class Waiting(Program):
    """Works until it is let go, and notes when it was cancelled instead."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.cancelled = 0

    async def process(self, payload: dict[str, Any]) -> None:
        await super().process(payload)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Consuming(Protocol):
    def __call__(
        self, process_fn: Callable[[dict[str, Any]], Awaitable[None]], *, label: str = ..., client: Any = ...
    ) -> AbstractAsyncContextManager[ToolExecConsumer]: ...


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings of the test's own plane, where such a program finds them."""
    for name in ("prefix", "drain_seconds", "reap_after_ms"):
        monkeypatch.setenv(f"TOOLSPAN_{name.upper()}", str(getattr(settings, name)))
    return monkeypatch


@pytest.fixture
def consuming(plane: Plane, environment: pytest.MonkeyPatch) -> Consuming:
    """Runs a consumer until the block is left."""
    del environment

    @asynccontextmanager
    async def run(
        process_fn: Callable[[dict[str, Any]], Awaitable[None]], *, label: str = "program", client: Any = None
    ) -> AsyncIterator[ToolExecConsumer]:
        consumer = _consumer(client or plane.redis, label, process_fn)
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    return run


def _consumer(client: Any, label: str, process_fn: Any) -> ToolExecConsumer:
    return ToolExecConsumer(client, label, process_fn, autoclaim_interval=0.1, autoclaim_min_idle=LEASE_MS)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not [name for name in left if not name.startswith("asyncio_")], left


@pytest.mark.parametrize(
    "payload",
    [
        {"anything": ["at", "all", None, 1.5], "args": "no object"},
        {"tool": "echo", "args": {"text": "é"}, "reply_to": "sg:reply:theirs", "request_id": "r1"},
        {"v": 7, "id": 3, "tool": ["no name"], "deadline": "soon", "traceparent": 1},
        {},
    ],
)
async def test_a_payload_is_handed_over_as_it_is(plane: Plane, consuming: Consuming, payload: dict[str, Any]) -> None:
    program = Program()
    await plane.add("payload", json.dumps(payload))
    async with consuming(program.process):
        await eventually(lambda: _settled(plane), because="it is settled")

    assert program.given == [payload]
    assert await plane.dead_letters() == []


async def test_orphans_in_great_number_do_not_wait_for_the_next_round(
    plane: Plane, environment: pytest.MonkeyPatch
) -> None:
    del environment
    program = Program()
    await plane.append("echo")
    await plane.orphan()
    # Its first round comes too early to take anything over, and its second one too late.
    consumer = ToolExecConsumer(plane.redis, "w", program.process, autoclaim_interval=3_600, autoclaim_min_idle=400)
    await consumer.start()

    async def taken() -> bool:
        await plane.redis.publish(plane.keys.workers, "orphans")
        return bool(program.given)

    await eventually(taken, because="another worker has called")
    await consumer.stop()


async def test_suspects_that_had_to_wait_for_one_another_do_not_wait_for_the_next_round(
    plane: Plane, environment: pytest.MonkeyPatch
) -> None:
    del environment
    program = Program()
    for number in range(3):
        await plane.append("echo", str(number))
    lost = [{"consumer": "old", "attempt": n, "start": n, "end": n + 1, "error": "worker_lost"} for n in (1, 2)]
    for entry_id in await plane.orphan():
        await plane.redis.hset(plane.keys.attempts, entry_id, json.dumps(lost))
    consumer = ToolExecConsumer(plane.redis, "w", program.process, autoclaim_interval=3_600, autoclaim_min_idle=400)
    await consumer.start()

    async def begun() -> bool:
        if not program.given:
            await plane.redis.publish(plane.keys.workers, "orphans")
        return bool(program.given)

    await eventually(begun, because="the first one is taken")
    await eventually(lambda: len(program.given) == 3, because="each is taken when the one before has ended")
    await consumer.stop()


async def test_fields_are_handed_over_as_a_dict_with_args_decoded(plane: Plane, consuming: Consuming) -> None:
    program = Program()
    await plane.add("tool", "echo", "args", '{"text": ["a", 1]}', "reply_to", "theirs", "own", "é".encode())
    async with consuming(program.process):
        await eventually(lambda: _settled(plane), because="it is settled")

    assert program.given == [{"tool": "echo", "args": {"text": ["a", 1]}, "reply_to": "theirs", "own": "é"}]


async def test_a_call_that_succeeds_is_deleted_without_a_reply_of_ours(plane: Plane, consuming: Consuming) -> None:
    program = Program()
    await plane.append("echo", "c1", text="hello")
    async with consuming(program.process):
        await eventually(lambda: _settled(plane), because="it is settled")

        assert await plane.pending() == {}

    assert [payload["id"] for payload in program.given] == ["c1"]
    assert await plane.replies() == []


async def test_a_call_that_fails_is_tried_again(plane: Plane, consuming: Consuming) -> None:
    given: list[dict[str, Any]] = []

    async def process(payload: dict[str, Any]) -> None:
        given.append(payload)
        if len(given) == 1:
            raise ConnectionResetError

    await plane.add("payload", '{"n": 1}')
    async with consuming(process):
        await eventually(lambda: _settled(plane), because="the second attempt succeeds")

    assert given == [{"n": 1}] * 2
    assert await plane.dead_letters() == []
    # What is on record about attempts ends with the call.
    assert await plane.redis.exists(plane.keys.attempts, plane.keys.parked) == 0


async def test_a_call_that_always_fails_is_dead_lettered_after_its_attempts(
    plane: Plane, consuming: Consuming, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TOOLSPAN_MAX_ATTEMPTS", "2")
    program = Failing(LookupError("no such index"))
    entry = await plane.append("search", "c1")
    async with consuming(program.process):
        letter = (await eventually(plane.dead_letters, because="it is dead-lettered"))[0]

    assert len(program.given) == 2
    assert (letter.entry_id, letter.reason, letter.error_type) == (entry, "max_attempts", "worker_error")
    assert letter.error_message == "no such index"
    assert "in process" in (letter.stack or "")
    assert [attempt.attempt for attempt in letter.attempts] == [1, 2]
    assert await plane.replies() == []


async def _cancelled_elsewhere(payload: dict[str, Any]) -> None:
    del payload
    work = asyncio.create_task(asyncio.Event().wait())
    work.cancel()
    await work


async def _leaves(payload: dict[str, Any]) -> None:
    del payload
    raise SystemExit(3)


class _UnspeakableError(Exception):
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


async def _unspeakable(payload: dict[str, Any]) -> None:
    del payload
    raise _UnspeakableError


async def _half(payload: dict[str, Any]) -> None:
    del payload
    message = "\ud800"
    raise ValueError(message)


def _before_it_gives_an_awaitable(payload: dict[str, Any]) -> Awaitable[None]:
    raise KeyError(str(payload))


@pytest.mark.parametrize("process", [_cancelled_elsewhere, _leaves, _unspeakable, _half, _before_it_gives_an_awaitable])
async def test_whatever_a_program_raises_harms_its_own_call_alone(
    plane: Plane,
    consuming: Consuming,
    environment: pytest.MonkeyPatch,
    process: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    environment.setenv("TOOLSPAN_MAX_ATTEMPTS", "1")
    program = Program()

    def either(payload: dict[str, Any]) -> Awaitable[None]:
        return program.process(payload) if payload.get("good") else process(payload)

    bad = await plane.add("payload", "{}")
    async with consuming(either):
        letter = (await eventually(plane.dead_letters, because="it is dead-lettered"))[0]
        await plane.add("payload", '{"good": true}')
        await eventually(lambda: program.given, because="the program goes on")
        await eventually(lambda: _settled(plane), because="its neighbour is settled")

    assert (letter.entry_id, letter.reason) == (bad, "max_attempts")


@pytest.mark.parametrize(
    "fields",
    [
        ["payload", b"\xff\xfe{"],
        ["payload", "[1]"],
        ["payload", '{"a":' * 80 + "1" + "}" * 80, "more", b"\x00\xff"],
        ["raw", b"\xff\xfe"],
        ["args", "[" * 65 + "]" * 65],
    ],
)
async def test_what_cannot_be_handed_over_is_dead_lettered_with_all_its_bytes(
    plane: Plane, consuming: Consuming, fields: list[str | bytes]
) -> None:
    program = Program()
    entry = await plane.add(*fields)
    async with consuming(program.process):
        letter = (await eventually(plane.dead_letters, because="it is dead-lettered"))[0]
        await plane.add("payload", '{"after": 1}')
        await eventually(lambda: _settled(plane), because="the program goes on")

    assert (letter.entry_id, letter.reason) == (entry, "malformed")
    assert letter.fields == [part if isinstance(part, bytes) else part.encode() for part in fields]
    assert program.given == [{"after": 1}]


async def test_the_orphan_of_another_consumer_is_taken_over(plane: Plane, consuming: Consuming) -> None:
    program = Program()
    await plane.add("payload", '{"orphaned": true}')
    await plane.orphan()
    async with consuming(program.process):
        await eventually(lambda: _settled(plane), because="it is taken over and settled")

    assert program.given == [{"orphaned": True}]


async def test_poison_is_dead_lettered_instead_of_handed_over(
    plane: Plane, consuming: Consuming, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TOOLSPAN_MAX_ATTEMPTS", "1")
    program = Program()
    await plane.append("echo", "poison")
    await plane.orphan()
    async with consuming(program.process):
        letter = (await eventually(plane.dead_letters, because="it is dead-lettered"))[0]

    assert letter.reason == "worker_lost"
    assert program.given == []
    # Whoever sent it hears from the program or from nobody.
    assert await plane.replies() == []


async def test_a_call_that_takes_longer_than_the_lease_is_handed_over_once(plane: Plane, consuming: Consuming) -> None:
    program = Waiting()
    await plane.add("payload", "{}")
    async with consuming(program.process, label="one"), consuming(program.process, label="two"):
        await eventually(lambda: program.given, because="it is handed over")
        later = await _last_beat(plane) + 1.5 * LEASE_MS
        await eventually(lambda: _beats_at(plane, later), because="more than a lease has gone by")
        program.go.set()
        await eventually(lambda: _settled(plane), because="it is settled")

    assert program.given == [{}]


async def test_the_label_is_not_the_identity(plane: Plane, consuming: Consuming) -> None:
    program = Program()
    async with consuming(program.process, label="my host/7"), consuming(program.process, label="my host/7"):
        names = await plane.beating()

    assert len(set(names)) == 2
    assert all(name.startswith("my-host-7-") for name in names)


async def test_stop_finishes_what_is_held_and_leaves_the_group(plane: Plane, consuming: Consuming) -> None:
    program = Waiting()
    await plane.add("payload", "{}")
    async with consuming(program.process) as consumer:
        await eventually(lambda: program.given, because="it is handed over")
        await asyncio.gather(consumer.stop(), _let_go(program))

        assert program.cancelled == 0
        assert await plane.left() == 0
        assert await plane.consumers() == []
        assert await plane.beating() == []


async def _let_go(program: Waiting) -> None:
    program.go.set()


async def test_what_is_not_done_at_the_end_of_the_drain_is_given_back(
    plane: Plane, consuming: Consuming, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TOOLSPAN_DRAIN_SECONDS", "0")
    slow, next_one = Waiting(), Program()
    await plane.add("payload", '{"n": 1}')
    async with consuming(slow.process):
        await eventually(lambda: slow.given, because="it is handed over")
    parked = await plane.pending()
    async with consuming(next_one.process):
        await eventually(lambda: _settled(plane), because="the next consumer is handed it")

    assert slow.cancelled == 1
    # What a drain ended was no attempt.
    assert list(parked.values()) == [("~parked", 0)]
    assert next_one.given == [{"n": 1}]


async def test_a_run_whose_call_is_somebody_elses_is_cancelled(plane: Plane, consuming: Consuming) -> None:
    program = Waiting()
    entry = await plane.add("payload", "{}")
    async with consuming(program.process):
        await eventually(lambda: program.given, because="it is handed over")
        await plane.redis.execute_command(
            "XCLAIM", plane.keys.calls, plane.keys.group, "thief", 0, entry, "JUSTID", parse_justid=True
        )
        await eventually(lambda: program.cancelled, because="the next heartbeat tells")

    assert (await plane.pending())[entry][0] == "thief"


async def test_without_redis_it_does_not_start_and_leaves_nothing_open(environment: pytest.MonkeyPatch) -> None:
    del environment
    before = asyncio.all_tasks()
    consumer = _consumer(redis.asyncio.Redis.from_url("unix:///nowhere/at/all.sock"), "program", Program().process)
    with pytest.raises(StoreError, match="No such file"):
        await consumer.start()

    assert asyncio.all_tasks() == before
    # Nothing was started, so there is nothing to end.
    await consumer.stop()


async def test_a_lease_that_another_worker_does_not_have_is_refused(
    plane: Plane, settings: Settings, environment: pytest.MonkeyPatch
) -> None:
    del environment
    async with running_worker(toolbox.echo, settings=settings):
        connected = len(await plane.redis.client_list())
        consumer = ToolExecConsumer(plane.redis, "program", Program().process, autoclaim_min_idle=5_000)
        with pytest.raises(LeaseMismatchError, match="5000"):
            await consumer.start()

        await eventually(lambda: _connected(plane, connected), because="its connections are closed")


async def test_a_start_that_redis_refuses_leaves_no_connection_open(
    plane: Plane, environment: pytest.MonkeyPatch
) -> None:
    del environment
    await plane.redis.set(plane.keys.calls, "no stream")
    connected = len(await plane.redis.client_list())
    consumer = _consumer(plane.redis, "program", Program().process)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await consumer.start()

    await eventually(lambda: _connected(plane, connected), because="its connections are closed")


async def test_a_start_that_is_cancelled_leaves_nothing_running(plane: Plane, environment: pytest.MonkeyPatch) -> None:
    del environment
    before = asyncio.all_tasks()
    consumer = _consumer(plane.redis, "program", Program().process)
    starting = asyncio.create_task(consumer.start())
    # Its first step comes first.
    asyncio.get_running_loop().call_soon(starting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert asyncio.all_tasks() == before
    assert await plane.beating() == []


async def test_a_consumer_that_runs_is_not_started_again(plane: Plane, consuming: Consuming) -> None:
    program = Program()
    async with consuming(program.process) as consumer:
        with pytest.raises(RuntimeError, match="is running"):
            await consumer.start()
        await plane.add("payload", "{}")
        await eventually(lambda: _settled(plane), because="the first start still holds")

    assert program.given == [{}]


async def test_a_consumer_that_was_stopped_may_start_again_under_a_new_name(
    plane: Plane, environment: pytest.MonkeyPatch
) -> None:
    del environment
    program = Program()
    consumer = _consumer(plane.redis, "program", program.process)
    names = []
    for number in (1, 2):
        await consumer.start()
        names += await plane.beating()
        await plane.add("payload", json.dumps({"n": number}))
        await eventually(lambda: _settled(plane), because="it is settled")
        await consumer.stop()

    assert program.given == [{"n": 1}, {"n": 2}]
    assert len(set(names)) == 2


async def test_stop_may_be_called_before_a_start_and_twice(plane: Plane, consuming: Consuming) -> None:
    await _consumer(plane.redis, "program", Program().process).stop()
    async with consuming(Program().process) as consumer:
        await asyncio.gather(consumer.stop(), consumer.stop())
        await consumer.stop()

        assert await plane.consumers() == []


@pytest.mark.parametrize("decode_responses", [False, True])
async def test_any_client_says_which_server(
    plane: Plane, settings: Settings, consuming: Consuming, *, decode_responses: bool
) -> None:
    program = Program()
    theirs = redis.asyncio.Redis.from_url(settings.redis_url, decode_responses=decode_responses)
    await plane.add("payload", '{"text": "é"}')
    async with consuming(program.process, client=theirs):
        await eventually(lambda: _settled(plane), because="it is settled")
        # It is still theirs.
        assert await theirs.ping()
    await theirs.aclose()

    assert program.given == [{"text": "é"}]


class _Instrumented(redis.asyncio.UnixDomainSocketConnection):
    """What a program may have made of a connection."""


async def test_a_client_with_connections_of_its_own_kind_says_it_too(
    plane: Plane, server: EmbeddedServer, consuming: Consuming
) -> None:
    path = str(server.folder / "sock")
    pool = redis.asyncio.ConnectionPool(connection_class=_Instrumented, path=path)
    theirs = redis.asyncio.Redis.from_pool(pool)
    async with consuming(Program().process, client=theirs):
        assert len(await plane.beating()) == 1
    await theirs.aclose()


async def test_a_client_that_asks_sentinel_is_refused_rather_than_taken_for_one_of_this_host(
    environment: pytest.MonkeyPatch,
) -> None:
    del environment
    sentinel = redis.asyncio.Sentinel([("localhost", 26379)])
    consumer = _consumer(sentinel.master_for("mymaster"), "program", Program().process)
    with pytest.raises(SettingsError, match="Sentinel"):
        await consumer.start()


def _plain(payload: dict[str, Any]) -> None:
    del payload


def _yields(payload: dict[str, Any]) -> Iterator[None]:
    yield payload["never"]


async def _yields_later(payload: dict[str, Any]) -> AsyncIterator[None]:
    yield payload["never"]


class _Callable:
    def __call__(self, payload: dict[str, Any]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    "process_fn", [_plain, functools.partial(_plain), _yields, _yields_later, _Callable(), print, None, "process"]
)
def test_what_cannot_be_awaited_is_refused_at_once(environment: pytest.MonkeyPatch, process_fn: Any) -> None:
    del environment
    with pytest.raises(TypeError, match=r"process_fn must be `async def process_fn\(payload\)`"):
        _consumer(redis.asyncio.Redis(), "program", process_fn)


class _Handler:
    def __init__(self, program: Program) -> None:
        self._program = program

    async def __call__(self, payload: dict[str, Any]) -> None:
        await self._program.process(payload)


def _typed(program: Program, payload: dict[str, Any]) -> Awaitable[None]:
    return program.process(payload)


@pytest.mark.parametrize("form", ["method", "partial", "object", "lambda", "function that gives an awaitable", "mock"])
async def test_whatever_gives_an_awaitable_is_taken(plane: Plane, consuming: Consuming, form: str) -> None:
    program = Program()
    forms: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
        "method": program.process,
        "partial": functools.partial(_Handler.__call__, _Handler(program)),
        "object": _Handler(program),
        "lambda": lambda payload: program.process(payload),  # noqa: PLW0108
        "function that gives an awaitable": functools.partial(_typed, program),
        "mock": AsyncMock(wraps=program.process),
    }
    await plane.add("payload", "{}")
    async with consuming(forms[form]):
        await eventually(lambda: _settled(plane), because="it is settled")

    assert program.given == [{}]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"autoclaim_min_idle": 0}, "autoclaim_min_idle"),
        ({"autoclaim_interval": 0}, "autoclaim_interval"),
        ({"autoclaim_interval": float("nan")}, "autoclaim_interval"),
    ],
)
def test_times_that_cannot_be_kept_are_refused_by_their_names(
    environment: pytest.MonkeyPatch, options: dict[str, Any], problem: str
) -> None:
    del environment
    with pytest.raises(SettingsError, match=problem):
        ToolExecConsumer(redis.asyncio.Redis(), "program", Program().process, **options)


async def _settled(plane: Plane) -> bool:
    return await plane.left() == 0


async def _connected(plane: Plane, count: int) -> bool:
    return len(await plane.redis.client_list()) <= count


async def _last_beat(plane: Plane) -> float:
    beats: Any = await plane.redis.zrange(plane.keys.workers, 0, -1, withscores=True)
    return max(float(beat) for _, beat in beats)


async def _beats_at(plane: Plane, moment_ms: float) -> bool:
    return await _last_beat(plane) > moment_ms
