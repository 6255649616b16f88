"""The HTTP front door: routes, statuses and headers on top of the client."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from toolspan.codec import dumps, loads
from toolspan.errors import (
    CallError,
    InvalidArguments,
    RedisUnavailable,
    TooLarge,
    ToolspanError,
    ToolTimeout,
    UnknownTool,
)
from toolspan.gateway.detached import Detached
from toolspan.identity import new_call_id
from toolspan.gateway.schemas import CallRequest, openapi
from toolspan.model import Failed, TraceFields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from toolspan.gateway.client import ToolClient
    from toolspan.model import Reply

_ENVELOPE_BYTES: Final = 4_096
"""What a body may measure beyond the arguments."""

_STATUS: Final[tuple[tuple[type[ToolspanError], int, str], ...]] = (
    (InvalidArguments, 400, ""),
    (UnknownTool, 404, ""),
    (ToolTimeout, 504, ""),
    (TooLarge, 413, "too_large"),
    (RedisUnavailable, 503, "redis_unavailable"),
)


def build_app(client: ToolClient) -> Starlette:
    """Make the ASGI application that serves *client*'s calls; opening and closing the client is the caller's."""
    gateway = _Gateway(client)
    return Starlette(
        routes=[
            Route("/v1/tools/{tool}/calls", gateway.call, methods=["POST"]),
            Route("/v1/calls/{id}", gateway.reply, methods=["GET"]),
            Route("/v1/tools", gateway.tools, methods=["GET"]),
            Route("/livez", gateway.live, methods=["GET"]),
            Route("/readyz", gateway.ready, methods=["GET"]),
            Route("/openapi.json", gateway.describe, methods=["GET"]),
        ],
        exception_handlers={
            HTTPException: gateway.no_route,
            ToolspanError: gateway.refused,
            Exception: gateway.broken,
        },
    )


class _Gateway:
    def __init__(self, client: ToolClient) -> None:
        self._client = client
        settings = client.settings
        self._max_bytes = settings.max_args_bytes + _ENVELOPE_BYTES
        self._nesting = settings.max_nesting + 1
        self._detached = Detached(settings.reply_ttl_seconds)
        self._description = openapi(version("toolspan"))

    async def call(self, request: Request) -> Response:
        tool: str = request.path_params["tool"]
        asked = await self._read(request)
        parent = TraceFields(
            request.headers.get("traceparent"), request.headers.get("tracestate"), request.headers.get("baggage")
        )
        if not parent.traceparent:
            parent = None  # type: ignore[assignment]
        call_id = new_call_id()
        timeout = asked.timeout_ms / 1000
        if asked.detach:
            entry_id, future = await self._client.detach(
                tool, asked.args, timeout=timeout, call_id=call_id, parent=parent
            )
            for forgotten in self._detached.add(call_id, entry_id, future):
                self._client.replies.forget(forgotten)
            return _json({"id": call_id, "entry_id": entry_id}, 202)
        try:
            reply = await self._client.call(
                tool,
                asked.args,
                timeout=timeout,
                call_id=call_id,
                tool_call_id=asked.tool_call_id,
                parent=parent,
            )
        except CallError as exc:
            if exc.reply is None or _status(exc)[0] != _OK:
                return _refusal(exc, call_id, exc.reply)
            reply = exc.reply
        return _answer(reply)

    async def reply(self, request: Request) -> Response:
        call_id: str = request.path_params["id"]
        known = self._detached.find(call_id)
        if known is None:
            return _error(404, "unknown_call", f"this gateway did not send a detached call {call_id}", call_id)
        entry_id, future = known
        if not future.done():
            return _json({"id": call_id, "entry_id": entry_id}, 202)
        return _answer(future.result())

    async def tools(self, _: Request) -> Response:
        return _json({"tools": [asdict(tool) for tool in await self._client.tools()]})

    async def live(self, _: Request) -> Response:
        return _json({"status": "live"})

    async def ready(self, _: Request) -> Response:
        if not self._client.replies.healthy:
            return _json({"status": "redis unavailable"}, 503)
        return _json({"status": "ready"})

    async def describe(self, _: Request) -> Response:
        return _json(self._description)

    async def no_route(self, _: Request, exc: Exception) -> Response:
        status = exc.status_code if isinstance(exc, HTTPException) else 404
        kind = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request")
        detail = exc.detail if isinstance(exc, HTTPException) else str(exc)
        return _error(status, kind, detail, headers=getattr(exc, "headers", None))

    async def refused(self, _: Request, exc: Exception) -> Response:
        if not isinstance(exc, ToolspanError):
            raise exc
        return _refusal(exc, None, None)

    async def broken(self, _: Request, exc: Exception) -> Response:
        self._client.probe.bug("gateway", exc)
        return _error(500, "internal", "the gateway failed; its log says why")

    async def _read(self, request: Request) -> CallRequest:
        """Read the body without taking in more than a call may measure."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._max_bytes:
                message = f"the body is over {self._max_bytes} bytes"
                raise TooLarge(message)
        try:
            value = loads(bytes(body), nesting=self._nesting) if body else {}
            return CallRequest.model_validate(value)
        except ValidationError as exc:
            told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in exc.errors())
            raise InvalidArguments(Failed("malformed", told)) from None
        except ValueError as exc:
            raise InvalidArguments(Failed("malformed", f"the body is not JSON that can be taken: {exc}")) from None


_OK: Final = 200


def _status(exc: ToolspanError) -> tuple[int, str]:
    for kind, status, name in _STATUS:
        if isinstance(exc, kind):
            return status, name
    return _OK, ""


def _answer(reply: Reply) -> Response:
    failure = reply.failure
    body: dict[str, Any] = {"id": reply.call_id, "entry_id": reply.entry_id, "status": reply.status}
    if failure is None:
        body["result"] = reply.result
    else:
        body["error"] = _told(failure)
    body["attempt"] = reply.attempt
    body["timings"] = {name: ms for name, ms in asdict(reply.timings).items() if ms is not None}
    body["trace_id"] = reply.trace_id
    return _json(body, _OK, {"Toolspan-Status": reply.status, **_traced(reply)})


def _refusal(exc: ToolspanError, call_id: str | None, reply: Reply | None) -> Response:
    status, name = _status(exc)
    headers = {} if reply is None else _traced(reply)
    if isinstance(exc, CallError):
        body = {"id": call_id, "status": "error", "error": _told(exc.failure)}
        return _json({k: v for k, v in body.items() if v is not None}, status, {"Toolspan-Status": "error", **headers})
    detail = {"maybe_accepted": exc.maybe_accepted} if isinstance(exc, RedisUnavailable) else None
    return _error(status, name, str(exc), call_id, detail=detail, retryable=isinstance(exc, RedisUnavailable))


def _error(  # noqa: PLR0913
    status: int,
    kind: str,
    message: str,
    call_id: str | None = None,
    *,
    detail: Any = None,
    retryable: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    error = {"type": kind, "message": message, "retryable": retryable, "detail": detail}
    body = {"id": call_id, "status": "error", "error": error} if call_id else {"status": "error", "error": error}
    return _json(body, status, {"Toolspan-Status": "error", **(headers or {})})


def _told(failure: Failed) -> dict[str, Any]:
    return {
        "type": failure.type,
        "message": failure.message,
        "retryable": failure.retryable,
        "detail": failure.detail,
    }


def _traced(reply: Reply) -> dict[str, str]:
    return {"traceresponse": reply.traceparent} if reply.traceparent else {}


def _json(body: Any, status: int = _OK, headers: Mapping[str, str] | None = None) -> Response:
    return Response(dumps(body), status, headers, media_type="application/json")
