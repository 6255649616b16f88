"""The HTTP front door: which route does what."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from toolspan.errors import Unauthorised
from toolspan.gateway.answers import REFUSALS, accepted, answered, as_json, cancelling, error, refused, told
from toolspan.gateway.detached import Detached
from toolspan.gateway.events import KEEP_ALIVE_SECONDS, EventResponse, asks_for_events
from toolspan.gateway.openapi import describe
from toolspan.gateway.presence import while_connected
from toolspan.gateway.requests import parent_of, read_call, refuse_large_head
from toolspan.gateway.streams import CallStream

if TYPE_CHECKING:
    from starlette.responses import Response

    from toolspan.gateway.client import ToolClient
    from toolspan.gateway.schemas import CallRequest
    from toolspan.gateway.tokens import Principal, Tokens
    from toolspan.model import ToolCall
    from toolspan.telemetry.callers import Calling


def build_app(client: ToolClient, tokens: Tokens | None = None) -> Starlette:
    """Make the ASGI application that serves *client*'s calls; whoever opened the client closes it.

    With *tokens* it serves those that have one, without everybody.
    """
    gateway = _Gateway(client, tokens)
    app = Starlette(
        routes=[
            Route("/v1/tools/{tool}/calls", gateway.call, methods=["POST"]),
            Route("/v1/calls/{id}", gateway.reply, methods=["GET"]),
            Route("/v1/calls/{id}", gateway.cancel, methods=["DELETE"]),
            Route("/v1/tools", gateway.tools, methods=["GET"]),
            Route("/livez", gateway.live, methods=["GET"]),
            Route("/readyz", gateway.ready, methods=["GET"]),
            Route("/openapi.json", gateway.describe, methods=["GET"]),
        ],
        exception_handlers={
            HTTPException: gateway.no_route,
            ClientDisconnect: gateway.left,
            **dict.fromkeys(REFUSALS, gateway.refused),
            Exception: gateway.broken,
        },
    )
    # A redirect would be an answer in another shape than ours.
    app.router.redirect_slashes = False
    return app


class _Gateway:
    def __init__(self, client: ToolClient, tokens: Tokens | None) -> None:
        self._client = client
        self._tokens = tokens
        self._detached = Detached(client.replies.forget, told, seconds=client.settings.reply_ttl_seconds)
        self._description = describe(version("toolspan"), protected=tokens is not None)

    async def call(self, request: Request) -> Response:
        tool: str = request.path_params["tool"]
        principal = self._principal(request)
        if principal is not None and not principal.may_call(tool):
            message = f"the token of {principal.name} is not for this tool"
            raise Unauthorised(message, known=True)
        asked = await read_call(request, self._client.settings)
        call = self._client.asking.new_call(
            tool,
            asked.args,
            idempotency_key=asked.idempotency_key,
            tool_call_id=asked.tool_call_id,
            principal=_name_of(principal),
        )
        async with while_connected(request.receive):
            if not asked.detach and asks_for_events(request):
                return await self._followed(call, asked, request)
            return await self._called(call, asked, request)

    async def _called(self, call: ToolCall, asked: CallRequest, request: Request) -> Response:
        traceparent: str | None = None
        try:
            watched = self._client.probe.calling(
                tool=call.tool,
                call_id=call.id,
                calls=await self._client.stream_for(call.tool),
                tool_call_id=call.tool_call_id,
                parent=parent_of(request, asked, self._client.settings),
            )
            with watched as calling:
                traceparent = calling.traceparent
                return await self._answer(call, calling, asked)
        except REFUSALS as exc:
            return refused(exc, call_id=call.id, traceparent=traceparent)

    async def _followed(self, call: ToolCall, asked: CallRequest, request: Request) -> Response:
        stream = CallStream(
            self._client, call, timeout=asked.timeout_ms / 1000, parent=parent_of(request, asked, self._client.settings)
        )
        try:
            await stream.begin()
        except REFUSALS as exc:
            return refused(exc, call_id=call.id, traceparent=stream.traceparent)
        return EventResponse(stream, keep_alive=KEEP_ALIVE_SECONDS)

    async def _answer(self, call: ToolCall, calling: Calling, asked: CallRequest) -> Response:
        timeout = asked.timeout_ms / 1000
        if not asked.detach:
            return answered(await self._client.asking.ask(call, calling, timeout=timeout), calling.traceparent)
        known, reply = await self._client.asking.detach(call, calling, timeout=timeout)
        self._detached.add(known.call_id, known.entry_id, reply, principal=call.principal)
        return accepted(known.call_id, known.entry_id, calling.traceparent)

    async def reply(self, request: Request) -> Response:
        call_id: str = request.path_params["id"]
        known = self._detached.find(call_id, principal=_name_of(self._principal(request)))
        if known is None:
            return error(404, "unknown_call", "this gateway remembers no detached call of this id")
        if known.error is not None:
            raise known.error
        return known.answer or accepted(call_id, known.entry_id)

    async def cancel(self, request: Request) -> Response:
        # Whoever knows the id of a call was told it by whoever sent that.
        call_id: str = request.path_params["id"]
        known = self._detached.find(call_id, principal=_name_of(self._principal(request)))
        if known is None or known.answer is None:
            await self._client.cancel_call(call_id, entry_id=known.entry_id if known else "")
        return cancelling(call_id)

    async def tools(self, request: Request) -> Response:
        principal = self._principal(request)
        listed = [
            {**asdict(tool), "paused": paused}
            for tool, paused in await self._client.tools_and_pauses()
            if principal is None or principal.may_call(tool.name)
        ]
        return as_json({"tools": listed})

    def _principal(self, request: Request) -> Principal | None:
        """Tell who asks; None where nobody is asked who he is."""
        refuse_large_head(request)
        return None if self._tokens is None else self._tokens.holder(request.headers.get("authorization"))

    async def live(self, _: Request) -> Response:
        return as_json({"status": "live"})

    async def ready(self, _: Request) -> Response:
        # The reader asks Redis all the time: there is no need to ask once more.
        if self._client.replies.healthy:
            return as_json({"status": "ready"})
        return error(503, "redis_unavailable", "replies cannot be read", retryable=True)

    async def describe(self, _: Request) -> Response:
        return as_json(self._description)

    async def no_route(self, _: Request, exc: Exception) -> Response:
        if not isinstance(exc, HTTPException):
            raise exc
        kind = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "bad_request")
        return error(exc.status_code, kind, exc.detail, headers=exc.headers)

    async def refused(self, _: Request, exc: Exception) -> Response:
        if not isinstance(exc, REFUSALS):
            raise exc
        return refused(exc)

    async def left(self, _: Request, __: Exception) -> Response:
        # Nobody hears it: the client hung up in the middle of what it sent.
        return error(400, "bad_request", "the body ended too early")

    async def broken(self, _: Request, exc: Exception) -> Response:
        self._client.probe.bug("gateway", exc)
        return error(500, "internal", "the gateway failed; its log says why")


def _name_of(principal: Principal | None) -> str | None:
    return None if principal is None else principal.name
