"""The HTTP interface: every status, header and body that it promises."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan import ToolClient, tool
from toolspan.gateway.http import build_app
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.answerer import Answerer
    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import Recorder

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def test_a_call_is_answered_with_its_result(http: httpx.AsyncClient, worker: Answerer) -> None:
    answer = await _call(http, "echo", args={"n": 2**70, "text": "é"}, tool_call_id="call_1")

    assert (answer.status_code, answer.headers["toolspan-status"]) == (200, "ok")
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.pop("timings") == {"queue": 1.5, "execute": 2.25}
    assert body == {
        "id": worker.seen[0]["id"],
        "entry_id": worker.ids[0],
        "status": "ok",
        "result": {"n": 2**70, "text": "é"},
        "attempt": 1,
        "trace_id": None,
    }
    assert worker.seen[0]["tool_call_id"] == "call_1"


@pytest.mark.parametrize(
    "kind",
    [
        "tool_error",
        "timeout",
        "cancelled",
        "reply_too_large",
        "worker_error",
        "quarantined",
        "outcome_unknown",
    ],
)
async def test_an_ordinary_failure_is_an_answer_like_others(
    http: httpx.AsyncClient, worker: Answerer, kind: str
) -> None:
    answer = await _call(http, f"error.{kind}")

    assert (answer.status_code, answer.headers["toolspan-status"]) == (200, "error")
    body = answer.json()
    assert body["error"] == {"type": kind, "message": f"so {kind}", "retryable": False, "detail": None}
    assert (body["id"], body["status"], body["attempt"]) == (worker.seen[0]["id"], "error", 1)
    assert "result" not in body


@pytest.mark.parametrize(
    ("kind", "status"),
    [("invalid_arguments", 400), ("malformed", 400), ("unknown_tool", 404), ("deadline_exceeded", 504)],
)
async def test_failures_that_http_has_a_status_for_have_it(
    http: httpx.AsyncClient, worker: Answerer, kind: str, status: int
) -> None:
    answer = await _call(http, f"error.{kind}")

    assert _refusal(answer) == (status, kind)
    assert answer.json()["id"] == worker.seen[0]["id"]


@pytest.mark.usefixtures("worker")
async def test_no_reply_in_time_is_a_504_that_says_what_is_known(http: httpx.AsyncClient) -> None:
    answer = await _call(http, "mute", timeout_ms=50)

    assert _refusal(answer) == (504, "deadline_exceeded")
    assert answer.json()["error"]["detail"] == {"may_still_run": True, "live_workers": 0}
    assert answer.json()["error"]["retryable"] is True
    assert "id" in answer.json()


async def test_a_detached_call_is_fetched_later(http: httpx.AsyncClient, worker: Answerer) -> None:
    accepted = await _call(http, "held", args={"n": 1}, detach=True, tool_call_id="call_2", timeout_ms=9_000)

    assert accepted.status_code == 202
    ids = accepted.json()
    await eventually(lambda: worker.seen, because="the call is sent")
    fields = worker.seen[0]
    assert ids == {"id": fields["id"], "entry_id": worker.ids[0]}
    assert fields["tool_call_id"] == "call_2"
    assert int(fields["deadline"]) - int(ids["entry_id"].partition("-")[0]) == pytest.approx(9_000, abs=1)
    still_open = await http.get(f"/v1/calls/{ids['id']}")
    assert (still_open.status_code, still_open.json()) == (202, ids)

    worker.release.set()
    done = await eventually(lambda: _done(http, ids["id"]), because="the reply comes")
    assert done.json()["result"] == {"n": 1}
    assert done.headers["toolspan-status"] == "ok"
    again = await http.get(f"/v1/calls/{ids['id']}")
    assert again.json() == done.json()


@pytest.mark.usefixtures("worker")
async def test_what_became_of_a_detached_call_is_told_with_200_whatever_it_was(
    http: httpx.AsyncClient,
) -> None:
    """A 404 would say that nobody knows the call."""
    ids = (await _call(http, "error.unknown_tool", detach=True)).json()
    done = await eventually(lambda: _done(http, ids["id"]), because="the reply comes")

    assert (done.status_code, done.headers["toolspan-status"]) == (200, "error")
    assert done.json()["error"]["type"] == "unknown_tool"


async def test_a_call_that_nobody_sent_is_not_found(http: httpx.AsyncClient) -> None:
    assert _refusal(await http.get("/v1/calls/nobody")) == (404, "unknown_call")


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[]", "the body must be a JSON object"),
    (b'{"args": []}', "args"),
    (b'{"args": {"x": NaN}}', "not JSON"),
    (b'{"args": {"x": "\\ud800"}}', "not JSON"),
    (b'{"timeout_ms": 0}', "timeout_ms"),
    (b'{"timeout_ms": 3600001}', "timeout_ms"),
    (b'{"timeout_ms": "5"}', "timeout_ms"),
    (b'{"detach": 1}', "detach"),
    (b'{"arguments": {}}', "arguments"),
    (b'{"idempotency_key": ""}', "idempotency_key"),
    (b'{"idempotency_key": "a\\u0000b"}', "idempotency key"),
]


@pytest.mark.parametrize(("body", "told"), BAD_BODIES)
async def test_a_body_that_is_not_asked_for_is_refused_with_the_reason(
    http: httpx.AsyncClient, worker: Answerer, body: bytes, told: str
) -> None:
    answer = await http.post("/v1/tools/echo/calls", content=body)

    assert _refusal(answer) == (400, "malformed")
    assert told in answer.json()["error"]["message"]
    assert worker.seen == []


@pytest.mark.usefixtures("worker")
async def test_no_body_asks_for_no_arguments(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/tools/echo/calls")

    assert answer.json()["result"] == {}


@pytest.mark.parametrize("name", ["no name", "-", "é", "x" * 129, "a:b"])
async def test_a_name_that_no_tool_can_have_is_malformed(http: httpx.AsyncClient, name: str) -> None:
    assert _refusal(await _call(http, name)) == (400, "malformed")


@pytest.mark.parametrize(
    "args",
    [{"text": "x" * 262_144}, {"text": "x" * 300_000}, {"deep": json.loads("[" * 64 + "]" * 64)}],
    ids=["arguments", "body", "nesting"],
)
async def test_what_is_over_a_limit_is_too_large(http: httpx.AsyncClient, args: dict[str, Any]) -> None:
    assert _refusal(await _call(http, "echo", args=args)) == (413, "too_large")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_body_is_refused_before_it_is_read(http: httpx.AsyncClient, announced: bool) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 65_536
            yield b" " * 65_536

    headers = {"content-length": "99999999"} if announced else {}
    answer = await http.post("/v1/tools/echo/calls", content=endless(), headers=headers)

    assert _refusal(answer) == (413, "too_large")
    assert read <= 262_144 + 3 * 65_536


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/tools/", 404, "not_found"),
        ("POST", "/v1/tools/a/b/calls", 404, "not_found"),
        ("GET", "/v1/tools/echo/calls", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ],
)
async def test_what_there_is_not_is_refused_in_the_one_shape(
    http: httpx.AsyncClient, method: str, path: str, status: int, kind: str
) -> None:
    answer = await http.request(method, path)

    assert _refusal(answer) == (status, kind)
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_trace_goes_on_through_the_gateway(
    http: httpx.AsyncClient, worker: Answerer, recorder: Recorder
) -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "team=blue"}
    answer = await _call(http, "echo", headers=headers)

    call = next(span for span in recorder.spans if span.name == "call echo")
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == "b7ad6b7169203331"
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{call.context.span_id:016x}-01"
    assert worker.seen[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert (worker.seen[0]["tracestate"], worker.seen[0]["baggage"]) == ("vendor=1", "team=blue")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("tool_name", ["mute", "no name", "error.unknown_tool"])
async def test_a_refusal_belongs_to_its_trace_too(http: httpx.AsyncClient, tool_name: str) -> None:
    answer = await _call(http, tool_name, headers={"traceparent": TRACEPARENT}, timeout_ms=50)

    assert answer.status_code >= 400
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")


@pytest.mark.parametrize("given", [["nonsense"], ["00-" + "0" * 32 + "-b7ad6b7169203331-01"], [TRACEPARENT] * 2])
async def test_a_trace_context_that_is_none_is_left_out(
    http: httpx.AsyncClient, worker: Answerer, given: list[str]
) -> None:
    headers = [("traceparent", value) for value in given] + [("tracestate", "vendor=1")]
    answer = await http.post("/v1/tools/echo/calls", json={}, headers=headers)

    assert answer.status_code == 200
    assert TRACE not in worker.seen[0]["traceparent"]
    assert "tracestate" not in worker.seen[0]


async def test_a_trace_in_the_meta_object_of_mcp_goes_on_too(http: httpx.AsyncClient, worker: Answerer) -> None:
    meta = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "team=blue", "progressToken": 7}
    answer = await http.post("/v1/tools/echo/calls", json={"_meta": meta})
    other = TRACEPARENT.replace("0af7", "1af7")
    both = await http.post("/v1/tools/echo/calls", json={"_meta": meta}, headers={"traceparent": other})

    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert worker.seen[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert (worker.seen[0]["tracestate"], worker.seen[0]["baggage"]) == ("vendor=1", "team=blue")
    # A header is nearer to us than a body that was handed on.
    assert both.headers["traceresponse"].startswith(other[:35])
    assert "baggage" not in worker.seen[1]


@pytest.mark.parametrize("meta", [{"traceparent": 7}, {"traceparent": "nonsense"}, {"baggage": "a=1"}, {}])
async def test_what_is_no_trace_in_the_meta_object_is_left_out(
    http: httpx.AsyncClient, worker: Answerer, meta: dict[str, Any]
) -> None:
    answer = await http.post("/v1/tools/echo/calls", json={"_meta": meta})

    assert answer.status_code == 200
    assert TRACE not in worker.seen[0]["traceparent"]
    assert "baggage" not in worker.seen[0]


@pytest.mark.parametrize("body", [{"_meta": "text"}, {"_meta": None}, {"meta": {}}])
async def test_a_meta_object_that_is_none_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await http.post("/v1/tools/echo/calls", json=body)

    assert _refusal(answer) == (400, "malformed")


@pytest.mark.parametrize("place", ["header", "_meta"])
async def test_not_more_traces_are_sampled_than_the_gateway_allows(
    settings: Settings, recorder: Recorder, worker: Answerer, place: str
) -> None:
    capped = settings.model_copy(update={"remote_sampled_ratio": 0.0})
    headers = {"traceparent": TRACEPARENT} if place == "header" else {}
    body = {"_meta": {"traceparent": TRACEPARENT}} if place == "_meta" else {}
    async with ToolClient(capped, probe=recorder.probe) as client:
        transport = httpx.ASGITransport(build_app(client))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            answer = await http.post("/v1/tools/echo/calls", json=body, headers=headers)

    assert answer.status_code == 200
    assert worker.seen[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert worker.seen[0]["traceparent"].endswith("-00")
    assert recorder.spans == ()


async def test_tools_are_described_with_their_schemas(http: httpx.AsyncClient, settings: Settings) -> None:
    @tool
    async def search(query: str, limit: int = 10) -> list[str]:
        """Search the index."""
        return [query] * limit

    async with running_worker(search, settings=settings):
        answer = await http.get("/v1/tools")

    (described,) = answer.json()["tools"]
    assert (described["name"], described["description"]) == ("search", "Search the index.")
    assert described["schema"]["properties"].keys() == {"query", "limit"}
    assert (described["delivery"], described["paused"]) == ("at_least_once", False)


async def test_a_paused_tool_is_described_as_paused(http: httpx.AsyncClient, settings: Settings, plane: Plane) -> None:
    async with running_worker(echo, settings=settings):
        await plane.redis.hset(plane.keys.control, "pause:echo", "{}")
        answer = await http.get("/v1/tools")

    assert [one["paused"] for one in answer.json()["tools"]] == [True]


async def test_the_gateway_is_live_and_ready(http: httpx.AsyncClient) -> None:
    live, ready = await http.get("/livez"), await http.get("/readyz")

    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_without_redis_it_is_live_but_not_ready_and_takes_nothing(recorder: Recorder) -> None:
    settings = settings_for("redis://127.0.0.1:1/0")
    async with (
        ToolClient(settings, probe=recorder.probe) as client,
        httpx.AsyncClient(transport=httpx.ASGITransport(build_app(client)), base_url="http://gateway") as http,
    ):
        await eventually(lambda: not client.replies.healthy, because="the reader notices")
        assert (await http.get("/livez")).status_code == 200
        assert _refusal(await http.get("/readyz")) == (503, "redis_unavailable")
        listed = await http.get("/v1/tools")
        assert _refusal(listed) == (503, "redis_unavailable")
        # Nothing was sent that could have been taken.
        assert "taken" not in listed.json()["error"]["message"]
        for detach in (True, False):
            answer = await _call(http, "echo", detach=detach)
            assert _refusal(answer) == (503, "redis_unavailable")
            assert answer.json()["error"]["detail"] == {"maybe_accepted": False}
            assert answer.json()["error"]["retryable"] is True
        assert len(client.replies) == 0


async def test_a_503_says_that_the_call_may_have_been_accepted(
    http: httpx.AsyncClient, client: ToolClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stalled(*_: Any, **__: Any) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(client._store, "append", stalled)
    answer = await _call(http, "echo", timeout_ms=50)

    assert _refusal(answer) == (503, "redis_unavailable")
    assert answer.json()["error"]["detail"] == {"maybe_accepted": True}


async def test_a_bug_of_ours_is_a_500_that_tells_nothing_to_its_caller(
    http: httpx.AsyncClient, client: ToolClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs: list[tuple[str, BaseException]] = []

    async def bug(*_: Any, **__: Any) -> None:
        message = "secret"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(client.asking, "ask", bug)
    monkeypatch.setattr(client.probe, "bug", lambda step, error: bugs.append((step, error)))
    answer = await _call(http, "echo")

    assert _refusal(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert [(step, type(error)) for step, error in bugs] == [("gateway", ZeroDivisionError)]


async def _call(
    http: httpx.AsyncClient, tool_name: str, *, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    return await http.post(f"/v1/tools/{tool_name}/calls", json=body, headers=headers)


async def _done(http: httpx.AsyncClient, call_id: str) -> httpx.Response | None:
    answer = await http.get(f"/v1/calls/{call_id}")
    return answer if answer.status_code == 200 else None


def _refusal(answer: httpx.Response) -> tuple[int, str]:
    """Give status and type of a refusal, after a look at its shape."""
    body = answer.json()
    assert body.keys() - {"id"} == {"status", "error"}
    assert body["status"] == "error"
    assert body["error"].keys() == {"type", "message", "retryable", "detail"}
    assert answer.headers["toolspan-status"] == "error"
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["error"]["type"]
