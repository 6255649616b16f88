"""The description is true: what the routes answer is what it says, and it says nothing that has no route."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import httpx

from tests.conftest import settings_for
from tests.support.eventually import eventually
from toolspan import ToolClient, tool
from toolspan.gateway import requests, schemas
from toolspan.gateway.http import build_app
from toolspan.gateway.tokens import Tokens
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest
    import redis.asyncio
    from pydantic import BaseModel

    from toolspan.settings import Settings
    from toolspan.testing import Recorder

CALLS = "/v1/tools/{tool}/calls"


@tool
async def half(n: int) -> float:
    """Halve."""
    return n / 2


@tool
async def fails() -> None:
    """Raise."""
    message = "it broke"
    raise RuntimeError(message)


@tool
async def endless() -> None:
    """Take longer than anybody waits."""
    await asyncio.Event().wait()


async def test_what_the_routes_answer_is_what_is_described(
    settings: Settings,
    recorder: Recorder,
    raw: redis.asyncio.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = settings_for("redis://127.0.0.1:1/0")
    async with (
        running_worker(half, fails, endless, settings=settings),
        ToolClient(settings, probe=recorder.probe) as client,
        ToolClient(settings.model_copy(update={"backlog_limit": 1}), probe=recorder.probe) as full,
        ToolClient(away, probe=recorder.probe) as cut_off,
    ):
        async with _http(client) as http:
            truth = _Truth((await http.get("/openapi.json")).json())
            await _serving(truth, http)
            monkeypatch.setattr(requests, "BODY_SECONDS", 0.05)
            await truth.slow_call(http, "half")
            monkeypatch.setattr(client.asking, "ask", _bug)
            await truth.call(http, "half", {})
        async with _http(full) as http:
            await raw.zadd(settings.keys.parked, {"1-1": 4e12})
            await truth.call(http, "half", {})
            await raw.delete(settings.keys.parked)
        async with _http(full, _tokens(tmp_path, recorder)) as http:
            await _without_a_token(truth, http)
        async with _http(cut_off) as http:
            await eventually(lambda: not cut_off.replies.healthy, because="the reader notices")
            await truth.call(http, "half", {})
            await truth.get(http, "/v1/tools")
            await truth.delete(http, "/v1/calls/{id}", id="nobody")
            await truth.get(http, "/readyz")

    # A bug is a bug on any route: once is enough.
    assert {route: statuses | {500} for route, statuses in truth.seen.items()} == truth.described


async def test_a_gateway_with_tokens_says_where_they_are_asked_for(
    client: ToolClient, recorder: Recorder, tmp_path: Path
) -> None:
    async with _http(client) as http:
        everybody = (await http.get("/openapi.json")).json()
    async with _http(client, _tokens(tmp_path, recorder)) as http:
        holders = (await http.get("/openapi.json")).json()

    assert holders["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    for described, asked in ((everybody, [{}]), (holders, [{"bearer": []}])):
        for path, operations in described["paths"].items():
            for operation in operations.values():
                assert operation.get("security") == (asked if path.startswith("/v1/") else None)


async def _without_a_token(truth: _Truth, http: httpx.AsyncClient) -> None:
    await truth.call(http, "half", {})
    await truth.get(http, "/v1/calls/{id}", id="nobody")
    await truth.delete(http, "/v1/calls/{id}", id="nobody")
    await truth.get(http, "/v1/tools")
    http.headers["authorization"] = "Bearer secret"
    await truth.call(http, "half", {})
    http.headers["x-large"] = "x" * 40_000
    await truth.get(http, "/v1/calls/{id}", id="nobody")
    await truth.delete(http, "/v1/calls/{id}", id="nobody")
    await truth.get(http, "/v1/tools")


async def _serving(truth: _Truth, http: httpx.AsyncClient) -> None:
    await truth.call(http, "half", {"args": {"n": 3}})
    await truth.call(http, "fails", {})
    await truth.call(http, "half", {"args": {"n": "three"}})
    await truth.call(http, "half", {"args": {"n": 3}, "unknown": 1})
    await truth.call(http, "half", {"args": {"x": "x" * 300_000}})
    await truth.call(http, "half", {"args": {"n": 3}, "idempotency_key": "k"})
    await truth.call(http, "half", {"args": {"n": 4}, "idempotency_key": "k"})
    await truth.call(http, "none", {})
    await truth.call(http, "endless", {"timeout_ms": 50})
    waiting = await truth.call(http, "endless", {"timeout_ms": 500, "detach": True})
    await truth.get(http, "/v1/calls/{id}", id=waiting["id"])
    await eventually(lambda: _ended(truth, http, waiting["id"]), because="its deadline passes, and a worker says so")
    await truth.get(http, "/v1/calls/{id}", id="nobody")
    await truth.delete(http, "/v1/calls/{id}", id="nobody")
    await truth.delete(http, "/v1/calls/{id}", id="n" * 300)
    for path in ("/v1/tools", "/livez", "/readyz", "/openapi.json"):
        await truth.get(http, path)


async def _ended(truth: _Truth, http: httpx.AsyncClient, call_id: str) -> bool:
    return "status" in await truth.get(http, "/v1/calls/{id}", id=call_id)


class _Truth:
    """Compares answers with a description, by the models that it names."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._paths = description["paths"]
        self._schemas = description["components"]["schemas"]
        self.seen: dict[tuple[str, str], set[int]] = {}
        self.described = {
            (path, method): {int(status) for status in operation["responses"]}
            for path, operations in self._paths.items()
            for method, operation in operations.items()
        }

    async def call(self, http: httpx.AsyncClient, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._look(CALLS, "post", await http.post(f"/v1/tools/{name}/calls", json=body))

    async def slow_call(self, http: httpx.AsyncClient, name: str) -> dict[str, Any]:
        async def endless() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        return self._look(CALLS, "post", await http.post(f"/v1/tools/{name}/calls", content=endless()))

    async def delete(self, http: httpx.AsyncClient, path: str, **values: str) -> dict[str, Any]:
        return self._look(path, "delete", await http.delete(path.format(**values)))

    async def get(self, http: httpx.AsyncClient, path: str, **values: str) -> dict[str, Any]:
        return self._look(path, "get", await http.get(path.format(**values)))

    def _look(self, path: str, method: str, answer: httpx.Response) -> dict[str, Any]:
        told = self._paths[path][method]["responses"][str(answer.status_code)]
        self.seen.setdefault((path, method), set()).add(answer.status_code)
        kind = answer.headers["content-type"]
        assert kind in told["content"]
        body: dict[str, Any] = answer.json()
        name = told["content"][kind]["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            model: type[BaseModel] = getattr(schemas, name)
            model.model_validate(body)
            assert self._schemas[name]["additionalProperties"] is False
            assert set(self._schemas[name].get("required", ())) <= body.keys()
        return body


def _http(client: ToolClient, tokens: Tokens | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(client, tokens), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def _tokens(folder: Path, recorder: Recorder) -> Tokens:
    """One token, `secret`, that is good for nothing."""
    path = folder / "tokens.json"
    path.write_text(json.dumps([{"name": "ada", "sha256": hashlib.sha256(b"secret").hexdigest(), "tools": []}]))
    return Tokens(path, recorder.probe)


async def _bug(*_: Any, **__: Any) -> None:
    raise ZeroDivisionError
