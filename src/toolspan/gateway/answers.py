"""What goes out over HTTP: which status, which headers, and the one shape of every refusal."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from starlette.responses import Response

from toolspan.codec import dumps
from toolspan.errors import (
    BacklogFull,
    CallError,
    IdempotencyConflict,
    RedisUnavailable,
    TooLarge,
    TooSlow,
    Unauthorised,
)
from toolspan.model import Timings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolspan.model import Failed, Reply

REFUSALS: Final = (CallError, TooLarge, TooSlow, BacklogFull, IdempotencyConflict, Unauthorised, RedisUnavailable)
"""What is raised where there is no reply from a worker."""

Refusal: TypeAlias = (
    CallError | TooLarge | TooSlow | BacklogFull | IdempotencyConflict | Unauthorised | RedisUnavailable
)

# Everything else that a worker answers is a 200.
STATUS: Final = {"invalid_arguments": 400, "malformed": 400, "unknown_tool": 404, "deadline_exceeded": 504}

_PHASES: Final = tuple(field.name for field in fields(Timings))


def answered(reply: Reply, traceparent: str | None = None) -> Response:
    """Answer with what a worker replied; *traceparent* is our own span."""
    traceparent = traceparent or reply.traceparent
    if reply.failure is not None and reply.failure.type in STATUS:
        return _failed(reply.failure, reply.call_id, traceparent)
    return told(reply, traceparent)


def told(reply: Reply, traceparent: str | None = None) -> Response:
    """Tell what a worker replied, whatever it was."""
    body: dict[str, Any] = {"id": reply.call_id, "entry_id": reply.entry_id, "status": reply.status}
    if reply.failure is None:
        body["result"] = reply.result
    else:
        body["error"] = _error(reply.failure)
    body["attempt"] = reply.attempt
    timings = reply.timings
    body["timings"] = {name: ms for name in _PHASES if (ms := getattr(timings, name)) is not None}
    body["trace_id"] = reply.trace_id
    headers = {"Toolspan-Status": reply.status, **traced(traceparent or reply.traceparent)}
    return as_json(body, headers=headers)


def accepted(call_id: str, entry_id: str, traceparent: str | None = None) -> Response:
    """Say that a call is open."""
    return as_json({"id": call_id, "entry_id": entry_id}, 202, headers=traced(traceparent))


def cancelling(call_id: str) -> Response:
    """Say that a call is given up, if it is still open."""
    return as_json({"id": call_id}, 202)


def refused(
    exc: Refusal,
    *,
    call_id: str | None = None,
    traceparent: str | None = None,
) -> Response:
    """Say why there is no reply."""
    if isinstance(exc, CallError):
        return _failed(exc.failure, call_id, traceparent)
    headers = traced(traceparent)
    if isinstance(exc, TooLarge | TooSlow):
        return _not_taken_in(exc, call_id, headers)
    if isinstance(exc, IdempotencyConflict):
        return error(409, "idempotency_conflict", str(exc), call_id=call_id, headers=headers)
    if isinstance(exc, BacklogFull):
        headers["Retry-After"] = str(math.ceil(exc.retry_after))
        return error(429, "backlog_full", str(exc), retryable=True, call_id=call_id, headers=headers)
    if isinstance(exc, Unauthorised):
        if not exc.known:
            headers["WWW-Authenticate"] = "Bearer"
        return error(403 if exc.known else 401, "unauthorised", str(exc), call_id=call_id, headers=headers)
    detail = {"maybe_accepted": exc.maybe_accepted}
    return error(503, "redis_unavailable", str(exc), retryable=True, detail=detail, call_id=call_id, headers=headers)


def _not_taken_in(exc: TooLarge | TooSlow, call_id: str | None, headers: dict[str, str]) -> Response:
    if isinstance(exc, TooLarge):
        return error(413, "too_large", str(exc), call_id=call_id, headers=headers)
    headers["Connection"] = "close"
    return error(408, "too_slow", str(exc), retryable=True, call_id=call_id, headers=headers)


def error(
    status: int,
    kind: str,
    message: str,
    *,
    retryable: bool = False,
    detail: Any = None,
    call_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Refuse, in the shape that all refusals have."""
    body: dict[str, Any] = {} if call_id is None else {"id": call_id}
    body["status"] = "error"
    body["error"] = {"type": kind, "message": message, "retryable": retryable, "detail": detail}
    return as_json(body, status, headers={"Toolspan-Status": "error", **(headers or {})})


def as_json(body: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with *body* as JSON."""
    return Response(dumps(body), status, headers, media_type="application/json")


def _failed(failure: Failed, call_id: str | None, traceparent: str | None) -> Response:
    return error(
        STATUS[failure.type],
        failure.type,
        failure.message,
        retryable=failure.retryable,
        detail=failure.detail,
        call_id=call_id,
        headers=traced(traceparent),
    )


def _error(failure: Failed) -> dict[str, Any]:
    return {
        "type": failure.type,
        "message": failure.message,
        "retryable": failure.retryable,
        "detail": failure.detail,
    }


def traced(traceparent: str | None) -> dict[str, str]:
    """Give the header that names our span."""
    # What a worker wrote is its word, and not ours: nothing else may become a header.
    return {"traceresponse": traceparent} if traceparent and traceparent.isprintable() else {}
