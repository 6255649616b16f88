"""A reply, final or of progress, as it lies in a reply stream."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from toolspan.codec.fields import by_name, checked_object, refuse, text_in, trace_in
from toolspan.codec.forms import Form
from toolspan.codec.json import dumps, loads
from toolspan.errors import MalformedEntryError
from toolspan.model import ErrorType, Failed, Outcome, Progress, Reply, Succeeded, Timings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ERROR_TYPES: Final = frozenset(get_args(ErrorType))
_PHASES: Final = tuple(Timings.__annotations__)
_ALL_TIMINGS: Final = b"{%s}" % b",".join(b'"%s":%%.3f' % name.encode() for name in _PHASES)
_FORMS_KEPT: Final = 256
_MAX_NESTING: Final = 200
"""Deeper than any worker may be set to write: a caller reads what its own limit would not let it send."""


def encode_reply(
    *,
    call_id: str,
    entry_id: str,
    outcome: Outcome,
    attempt: int,
    consumer: str,
    timings: Timings,
    traceparent: str | None,
) -> tuple[Form, tuple[str | bytes, ...]]:
    """Encode a final reply: the form that it shares with others like it, and its own values."""
    if isinstance(outcome, Succeeded):
        status, value = "ok", outcome.result
    else:
        status, value = "error", _encode_failure(outcome)
    spent = _encode_timings(timings)
    if traceparent:
        return _form(status, attempt, consumer, traced=True), (call_id, entry_id, value, spent, traceparent)
    return _form(status, attempt, consumer, traced=False), (call_id, entry_id, value, spent)


@lru_cache(_FORMS_KEPT)
def _form(status: str, attempt: int, consumer: str, *, traced: bool) -> Form:
    return Form(
        "v", "1", "id", None, "entry", None, "status", status, "result" if status == "ok" else "error", None,
        "attempt", str(attempt), "consumer", consumer, "timings", None, *(("traceparent", None) if traced else ()),
    )  # fmt: skip


def encode_progress(
    *,
    call_id: str,
    entry_id: str,
    value: bytes,
    seq: int,
    attempt: int,
    consumer: str,
    traceparent: str | None,
) -> list[str | bytes]:
    """Encode a progress reply; *value* is JSON, already encoded."""
    fields: list[str | bytes] = [
        "v", "1", "id", call_id, "entry", entry_id, "status", "progress", "result", value,
        "seq", str(seq), "attempt", str(attempt), "consumer", consumer,
    ]  # fmt: skip
    if traceparent:
        fields += ("traceparent", traceparent)
    return fields


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode what a reply would have said, as one JSON object, for where the reply itself cannot be written."""
    if isinstance(outcome, Succeeded):
        return b'{"status":"ok","result":%s}' % outcome.result
    return b'{"status":"error","error":%s}' % _encode_failure(outcome)


def decode_answer(fields: Sequence[bytes]) -> Reply | Progress:
    """Decode a reply, final or of progress.

    Raises:
        MalformedEntryError: whatever the bytes are, and nothing else.
    """
    if b"progress" in fields:
        try:
            values = by_name(fields)
            if values.get(b"status") == b"progress":
                return _progress(values)
        except ValueError as exc:
            raise MalformedEntryError(str(exc)) from None
    return decode_reply(fields)


def decode_reply(fields: Sequence[bytes]) -> Reply:
    """Decode a final reply.

    Raises:
        MalformedEntryError: whatever the bytes are, and nothing else.
    """
    try:
        values = by_name(fields)
        status = values.get(b"status")
        if status not in {b"ok", b"error"}:
            refuse(f"status is {status!r}")
        ok = status == b"ok"
        return Reply(
            call_id=text_in(values, b"id") or "",
            entry_id=text_in(values, b"entry") or "",
            status="ok" if ok else "error",
            result=loads(values.get(b"result", b"null"), nesting=_MAX_NESTING) if ok else None,
            failure=None if ok else _decode_failure(values.get(b"error", b"")),
            attempt=int(values.get(b"attempt", b"0")),
            consumer=text_in(values, b"consumer") or "",
            timings=_decode_timings(values.get(b"timings", b"{}")),
            traceparent=trace_in(values).traceparent,
        )
    except ValueError as exc:
        raise MalformedEntryError(str(exc)) from None


def _progress(values: Mapping[bytes, bytes]) -> Progress:
    return Progress(
        call_id=text_in(values, b"id") or "",
        entry_id=text_in(values, b"entry") or "",
        value=loads(values.get(b"result", b"null"), nesting=_MAX_NESTING),
        seq=int(values.get(b"seq", b"0")),
        attempt=int(values.get(b"attempt", b"0")),
        consumer=text_in(values, b"consumer") or "",
    )


def _encode_failure(failure: Failed) -> bytes:
    body = {"type": failure.type, "message": failure.message, "retryable": failure.retryable, "detail": failure.detail}
    return dumps(body)


def _decode_failure(raw: bytes) -> Failed:
    body = checked_object("error", loads(raw, nesting=_MAX_NESTING))
    kind = body.get("type")
    return Failed(
        # A type that we do not know comes from a newer worker: it is one of ours, not the tool's.
        type=cast("ErrorType", kind) if isinstance(kind, str) and kind in _ERROR_TYPES else "worker_error",
        message=str(body.get("message", "")),
        retryable=body.get("retryable") is True,
        detail=body.get("detail"),
    )


def _encode_timings(timings: Timings) -> bytes:
    queue, admission, execute, settle = timings.queue, timings.admission, timings.execute, timings.settle
    if queue is not None and admission is not None and execute is not None and settle is not None:
        return _ALL_TIMINGS % (queue, admission, execute, settle)
    known = ((name, getattr(timings, name)) for name in _PHASES)
    return b"{%s}" % b",".join(b'"%s":%.3f' % (name.encode(), value) for name, value in known if value is not None)


def _decode_timings(raw: bytes) -> Timings:
    timings = checked_object("timings", loads(raw, nesting=2))
    return Timings(**{name: _milliseconds(timings.get(name)) for name in _PHASES})


def _milliseconds(value: Any) -> float | None:
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return refuse("timings are not milliseconds")
