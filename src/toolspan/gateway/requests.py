"""What comes in over HTTP: a body within its limits, and the trace to go on from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from toolspan.codec import MAX_TRACE_BYTES, loads, nested_within
from toolspan.errors import InvalidArguments, TooLarge, TooSlow
from toolspan.gateway.schemas import CallRequest
from toolspan.model import Failed, TraceFields
from toolspan.telemetry.propagation import capped, parse

if TYPE_CHECKING:
    from starlette.requests import Request

    from toolspan.settings import Settings

ENVELOPE_BYTES: Final = 4_096
"""What a body may measure beyond the arguments."""

HEAD_BYTES: Final = 32_768
"""What the headers of a request may measure together: some of them travel on with the call."""

BODY_SECONDS: Final = 30.0
"""How long a client has for the body of a request."""

_ENVELOPE_LEVELS: Final = 1


def refuse_large_head(request: Request) -> None:
    """Look at the size of a request's headers.

    Raises:
        TooLarge: if they are over the limit.
    """
    if sum(len(name) + len(value) for name, value in request.headers.raw) > HEAD_BYTES:
        message = f"the headers are over {HEAD_BYTES} bytes"
        raise TooLarge(message)


async def read_call(request: Request, settings: Settings) -> CallRequest:
    """Read the body of a call; no body at all asks for no arguments.

    Raises:
        TooLarge: if it is over a limit; no more of it than that was taken in.
        TooSlow: if it does not come in time.
        InvalidArguments: if it is not what the interface asks for.
    """
    body = await _body(request, settings.max_args_bytes + ENVELOPE_BYTES)
    if not body:
        return CallRequest()
    nesting = settings.max_nesting + _ENVELOPE_LEVELS
    if not nested_within(body, nesting):
        message = f"arguments nested deeper than {settings.max_nesting} levels"
        raise TooLarge(message)
    try:
        return CallRequest.model_validate(loads(body, nesting=nesting))
    except ValidationError as exc:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else "the body must be a JSON object"
            for e in exc.errors()
        )
    except ValueError as exc:
        told = f"the body is not JSON that we take: {exc}"
    raise InvalidArguments(Failed("malformed", told))


async def _body(request: Request, limit: int) -> bytes:
    message = f"the body is over {limit} bytes"
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:16]) > limit:
        raise TooLarge(message)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                if len(body) + len(part) > limit:
                    raise TooLarge(message)
                body += part
    except TimeoutError:
        raise TooSlow(f"the body did not come within {BODY_SECONDS:g} s") from None
    return bytes(body)


def parent_of(request: Request, asked: CallRequest, settings: Settings) -> TraceFields | None:
    """Give the trace context of a request, or None if it brings none that W3C would have us read.

    Its headers go before what *asked* has in `_meta`. Not more traces than *settings* allow are sampled for it.
    """
    headers = request.headers
    found = headers.getlist("traceparent")
    state, baggage = (",".join(headers.getlist(name)) or None for name in ("tracestate", "baggage"))
    if not found:
        found = [one for one in (_in_meta(asked, "traceparent"),) if one]
        state, baggage = _in_meta(asked, "tracestate"), _in_meta(asked, "baggage")
    if len(found) != 1 or parse(found[0]) is None:
        return None
    return TraceFields(capped(found[0], settings.remote_sampled_ratio), state, baggage)


def _in_meta(asked: CallRequest, name: str) -> str | None:
    """Give what would be a header of this name; what cannot be one is ignored, as in an entry."""
    said = asked.meta.get(name)
    return said if isinstance(said, str) and said.isascii() and 0 < len(said) <= MAX_TRACE_BYTES else None
