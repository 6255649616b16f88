"""Calls with an idempotency key: one run, one outcome, for everybody who asks, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.runs import starts
from toolspan import IdempotencyConflict, InvalidArguments, RedisUnavailable, ToolClient, ToolError, ToolTimeout
from toolspan.gateway import once
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx
    import redis.asyncio

    from tests.gateway.answerer import Answerer
    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer, Recorder

ALL = Registry.load(["tests.support.toolbox"])


@pytest.fixture
async def second(settings: Settings, recorder: Recorder) -> AsyncIterator[ToolClient]:
    """Another caller, in another process as far as Redis can tell."""
    async with ToolClient(settings, probe=recorder.probe) as made:
        yield made


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as made:
        yield made


@pytest.fixture
async def far(settings: Settings, proxy: Proxy, recorder: Recorder) -> AsyncIterator[ToolClient]:
    """A caller whose connections can be cut."""
    async with ToolClient(settings, url=proxy.url, probe=recorder.probe) as made:
        yield made


async def test_all_who_ask_under_one_key_get_the_one_outcome(
    client: ToolClient, second: ToolClient, plane: Plane, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    arguments = {"path": str(runs), "release": str(release)}
    async with running_worker(ALL, settings=plane.settings):
        asking = [
            asyncio.create_task(one.call("until", arguments, idempotency_key="k"))
            for one in (client, second, client, second)
        ]
        await eventually(lambda: _listeners(plane, 2), because="those who came later listen")
        release.touch()
        replies = await asyncio.gather(*asking)
        late = await client.call("until", dict(reversed(arguments.items())), idempotency_key="k")

    assert replies[0].result == 1
    assert all(reply == replies[0] for reply in (*replies, late))
    assert starts(runs) == 1
    assert await plane.left() == 0


async def test_a_failure_of_the_tool_is_remembered_as_well(client: ToolClient, plane: Plane) -> None:
    async with running_worker(ALL, settings=plane.settings):
        ids = set()
        for _ in range(2):
            with pytest.raises(ToolError, match="it broke") as raised:
                await client.call("fails", idempotency_key="k")
            ids.add(raised.value.reply and raised.value.reply.call_id)

    assert len(ids) == 1


async def test_the_tool_is_told_its_key(client: ToolClient, plane: Plane) -> None:
    async with running_worker(ALL, settings=plane.settings):
        reply = await client.call("about", idempotency_key="k")

    assert reply.result["idempotency_key"] == "k"


async def test_other_arguments_under_the_same_key_are_a_conflict(client: ToolClient, plane: Plane) -> None:
    async with running_worker(ALL, settings=plane.settings):
        await client.call("echo", {"text": "a"}, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await client.call("echo", {"text": "b"}, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await client.send("echo", {"text": "b"}, idempotency_key="k")


async def test_a_principal_and_a_tool_have_keys_of_their_own(client: ToolClient, plane: Plane) -> None:
    async with running_worker(ALL, settings=plane.settings):
        replies = [
            await client.call("echo", idempotency_key="k"),
            await client.call("echo", idempotency_key="k", principal="ada"),
            await client.call("about", idempotency_key="k"),
        ]

    assert len({reply.call_id for reply in replies}) == 3


async def test_a_call_whose_first_caller_had_no_time_runs_for_who_joined_it(
    client: ToolClient, second: ToolClient, plane: Plane, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    arguments = {"path": str(runs), "release": str(release)}
    async with running_worker(ALL, settings=plane.settings):
        hasty = asyncio.create_task(client.call("until", arguments, idempotency_key="k", timeout=1))
        await eventually(lambda: starts(runs) == 1, because="it runs")
        patient = asyncio.create_task(second.call("until", arguments, idempotency_key="k"))
        with pytest.raises(ToolTimeout):
            await hasty
        await eventually(lambda: starts(runs) == 2, because="it is run for the other")
        release.touch()
        reply = await patient

    assert reply.result == 2


async def test_who_waits_too_long_for_a_call_that_he_joined_is_told_that_it_runs(
    client: ToolClient, second: ToolClient, worker: Answerer
) -> None:
    first = asyncio.create_task(client.call("held", idempotency_key="k", timeout=60))
    await eventually(lambda: worker.seen, because="the call is sent")
    with pytest.raises(ToolTimeout) as raised:
        await second.call("held", idempotency_key="k", timeout=0.3)
    first.cancel()

    assert raised.value.detail == {"may_still_run": True, "live_workers": 0}
    assert len(worker.seen) == 1


@pytest.mark.parametrize("lost", ["answer", "command"])
@pytest.mark.parametrize("way", ["call", "send"])
async def test_an_append_that_is_lost_is_sent_again(
    far: ToolClient, proxy: Proxy, plane: Plane, tmp_path: Path, *, lost: str, way: str
) -> None:
    runs = tmp_path / "runs"
    async with running_worker(ALL, settings=plane.settings):
        await far.call("echo", idempotency_key="other")
        (proxy.cut_after if lost == "answer" else proxy.cut_before)(b"EVALSHA")
        await getattr(far, way)("marked", {"path": str(runs)}, idempotency_key="k")
        again = await far.call("marked", {"path": str(runs)}, idempotency_key="k")

    assert proxy.cuts == 1
    assert again.result == 1
    assert starts(runs) == 1
    assert await plane.left() == 0


async def test_without_redis_nobody_tries_for_long(recorder: Recorder) -> None:
    settings = settings_for("redis://127.0.0.1:1/0")
    async with ToolClient(settings, probe=recorder.probe) as client, asyncio.timeout(5):
        for asked in (client.call("echo", idempotency_key="k", timeout=60), client.send("echo", idempotency_key="k")):
            with pytest.raises(RedisUnavailable, match="nothing was taken") as raised:
                await asked
            assert not raised.value.maybe_accepted


async def test_who_lost_his_connection_hears_of_the_end_when_it_is_back(
    client: ToolClient, far: ToolClient, proxy: Proxy, plane: Plane, tmp_path: Path
) -> None:
    """What is told meanwhile is lost: he looks as soon as he listens again, long before he would look by himself."""
    runs, release = tmp_path / "runs", tmp_path / "release"
    arguments = {"path": str(runs), "release": str(release)}
    async with running_worker(ALL, settings=plane.settings):
        first = asyncio.create_task(client.call("until", arguments, idempotency_key="k"))
        await eventually(lambda: starts(runs) == 1, because="it runs")
        joined = asyncio.create_task(far.call("until", arguments, idempotency_key="k"))
        await eventually(lambda: _listeners(plane, 1), because="he listens")
        proxy.refusing = True
        proxy.cut_all()
        release.touch()
        await first
        proxy.refusing = False
        async with asyncio.timeout(once._LOOK_SECONDS / 2):
            reply = await joined

    assert reply == first.result()


async def test_who_is_told_nothing_looks_by_himself(
    client: ToolClient,
    second: ToolClient,
    plane: Plane,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(once, "_LOOK_SECONDS", 0.1)
    runs, release = tmp_path / "runs", tmp_path / "release"
    arguments = {"path": str(runs), "release": str(release)}

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(second._once.listener._channels, "next", never)
    async with running_worker(ALL, settings=plane.settings):
        first = asyncio.create_task(client.call("until", arguments, idempotency_key="k"))
        await eventually(lambda: starts(runs) == 1, because="it runs")
        joined = asyncio.create_task(second.call("until", arguments, idempotency_key="k"))
        await eventually(lambda: _listeners(plane, 1), because="he asks to listen")
        release.touch()
        await first

        assert (await joined).result == 1


async def test_a_call_that_was_lost_is_run_for_who_joined_it(
    client: ToolClient,
    second: ToolClient,
    plane: Plane,
    raw: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(once, "_LOOK_SECONDS", 0.1)
    first = asyncio.create_task(client.call("echo", {"text": "x"}, idempotency_key="k", timeout=60))
    [entry] = await eventually(lambda: raw.xrange(plane.keys.calls), because="the call is sent")
    joined = asyncio.create_task(second.call("echo", {"text": "x"}, idempotency_key="k"))
    await eventually(lambda: _listeners(plane, 1), because="he listens")
    await raw.xdel(plane.keys.calls, entry[0])
    async with running_worker(ALL, settings=plane.settings):
        assert (await joined).result == "x"
    first.cancel()


async def test_closing_answers_who_has_joined_a_call(
    client: ToolClient, settings: Settings, recorder: Recorder, worker: Answerer, plane: Plane
) -> None:
    first = asyncio.create_task(client.call("held", idempotency_key="k"))
    await eventually(lambda: worker.seen, because="the call is sent")
    async with ToolClient(settings, probe=recorder.probe) as closing, asyncio.timeout(10):
        joined = asyncio.create_task(closing.call("held", idempotency_key="k", timeout=60))
        await eventually(lambda: _listeners(plane, 1), because="he listens")
    with pytest.raises(ToolTimeout, match="the caller stopped") as raised:
        await joined
    first.cancel()

    assert raised.value.detail == {"may_still_run": True}


async def test_a_call_that_joins_is_in_the_trace_of_its_caller_and_is_not_counted_as_sent(
    client: ToolClient, plane: Plane, recorder: Recorder
) -> None:
    async with running_worker(ALL, settings=plane.settings):
        replies = [await client.call("echo", idempotency_key="k") for _ in range(2)]

    calls = [span for span in recorder.spans if span.name == "call echo"]
    assert recorder.total("messaging.client.sent.messages", messaging_operation_name="send") == 1
    assert {(span.attributes or {})["messaging.message.id"] for span in calls} == {replies[0].entry_id}
    assert [len(span.links) for span in calls] == [1, 1]


async def test_nobody_listens_once_nobody_waits(
    client: ToolClient, second: ToolClient, worker: Answerer, plane: Plane
) -> None:
    first = asyncio.create_task(client.call("held", idempotency_key="k"))
    await eventually(lambda: worker.seen, because="the call is sent")
    joined = asyncio.create_task(second.call("held", idempotency_key="k"))
    await eventually(lambda: _listeners(plane, 1), because="he listens")
    joined.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joined
    first.cancel()

    await eventually(lambda: _listeners(plane, 0), because="he listens no longer")
    assert second._once.listener._ears == {}
    assert len(second.replies) == 0


async def test_sending_twice_sends_once(client: ToolClient, worker: Answerer) -> None:
    ids = {await client.send("echo", {"a": 1}, idempotency_key="k") for _ in range(2)}
    await eventually(lambda: worker.seen, because="the call is sent")

    [fields] = worker.seen
    assert ids == {fields["id"]}
    assert fields["idem"] == "k"
    assert "reply_to" not in fields
    assert int(fields["deadline"]) - int(worker.ids[0].partition("-")[0]) == pytest.approx(86_400_000, abs=5)


@pytest.mark.parametrize("key", ["", "x" * 257, "a\0b", "a\nb"])
async def test_what_cannot_be_a_key_is_refused(client: ToolClient, raw: redis.asyncio.Redis, key: str) -> None:
    with pytest.raises(InvalidArguments, match="1 to 256 characters"):
        await client.call("echo", idempotency_key=key)

    assert await raw.exists(client.settings.keys.calls) == 0


async def test_a_key_that_would_be_forgotten_before_the_deadline_is_refused(
    settings: Settings, recorder: Recorder
) -> None:
    brief = settings.model_copy(update={"idempotency_ttl_seconds": 5})
    async with ToolClient(brief, probe=recorder.probe) as client:
        with pytest.raises(InvalidArguments, match="remembered for 5 s"):
            await client.call("echo", idempotency_key="k", timeout=6)


async def test_over_http_a_detached_call_may_be_joined_and_fetched(
    http: httpx.AsyncClient, plane: Plane, tmp_path: Path, second: ToolClient
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    arguments = {"path": str(runs), "release": str(release)}
    body = {"args": arguments, "idempotency_key": "k", "detach": True}
    async with running_worker(ALL, settings=plane.settings):
        first = asyncio.create_task(second.call("until", arguments, idempotency_key="k"))
        await eventually(lambda: starts(runs) == 1, because="it runs")
        joined = [await http.post("/v1/tools/until/calls", json=body) for _ in range(2)]
        ids = joined[0].json()
        assert [answer.status_code for answer in joined] == [202, 202]
        assert joined[1].json() == ids
        assert (await http.get(f"/v1/calls/{ids['id']}")).status_code == 202
        release.touch()
        done = await eventually(lambda: _done(http, ids["id"]), because="the reply comes")
        known = (await http.post("/v1/tools/until/calls", json=body)).json()
        other = await http.post("/v1/tools/until/calls", json=body | {"args": {}})
        plain = await http.post("/v1/tools/until/calls", json=body | {"detach": False})

    assert (await first).call_id == ids["id"]
    assert (done.json()["id"], done.json()["result"]) == (ids["id"], 1)
    assert known == ids
    assert plain.json()["result"] == 1
    assert (other.status_code, other.json()["error"]["type"]) == (409, "idempotency_conflict")


async def _listeners(plane: Plane, count: int) -> bool:
    """Whether *count* callers listen to the only key that is waited for."""
    channels: Any = await plane.redis.execute_command("PUBSUB", "CHANNELS", f"{plane.keys.prefix}:once:*")
    if not channels:
        return count == 0
    [(_, found)] = await plane.redis.pubsub_numsub(channels[0])
    return bool(found == count)


async def _done(http: httpx.AsyncClient, call_id: str) -> httpx.Response | None:
    answer = await http.get(f"/v1/calls/{call_id}")
    return answer if answer.status_code == 200 else None
