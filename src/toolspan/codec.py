"""Stream fields to and from the model: the wire format, version 1, and its limits."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast, get_args

from pydantic_core import PydanticSerializationError, from_json, to_json

from toolspan.errors import MalformedEntryError, TooLarge
from toolspan.model import (
    NO_TRACE,
    Attempt,
    DeadLetter,
    ErrorType,
    Failed,
    NewerCall,
    Outcome,
    Reply,
    Succeeded,
    Timings,
    ToolCall,
    TraceFields,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolspan.keys import Keys

VERSION: Final = 1
MAX_ID_CHARS: Final = 256
MAX_KEY_CHARS: Final = 1_024
MAX_STACK_BYTES: Final = 16_384
MAX_TRACE_BYTES: Final = 8_192
"""A header longer than this is ignored, as W3C Baggage allows from here on."""

TRACE_FIELDS: Final = ("traceparent", "tracestate", "baggage")
_TRACE: Final = tuple(name.encode() for name in TRACE_FIELDS)
CALL_FIELDS: Final = (
    "v",
    "id",
    "tool",
    "args",
    "reply_to",
    "deadline",
    "idem",
    "tool_call_id",
    "principal",
    "attempt_of",
    "replay_of",
)
# What a replay must not take over: it is a call of its own, which nobody waits for.
_NOT_REPLAYED: Final = frozenset({"id", "v", "reply_to", "deadline", "idem", "replay_of", *TRACE_FIELDS})

_OPTIONAL_TEXT: Final = ("idem", "tool_call_id", "principal", "attempt_of", "replay_of")
_TOOL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")
# A string up to its end or to the end of the text, so that no input is looked at twice; or a bracket that we count.
_BRACKETS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
# An exponent from which on a double may be infinite.
_HUGE_EXPONENT: Final = re.compile(rb"[eE]\+?[0-9]{3}")
_ERROR_TYPES: Final = frozenset(get_args(ErrorType))
_PAYLOAD: Final = b"payload"
_REQUIRED: Final = frozenset({b"v", b"id", b"tool", b"args"})
_TABLE: Final = frozenset(name.encode() for name in CALL_FIELDS)
_VARIABLE_TEXT: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|[0-9]+|\s+")


class NotJsonError(ValueError):
    """A value cannot be written as JSON."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an entry may measure."""

    args_bytes: int = 262_144
    reply_bytes: int = 262_144
    nesting: int = 64


def loads(raw: bytes, *, nesting: int) -> Any:
    """Decode JSON of at most *nesting* levels; the outermost array or object is level 1.

    Integers of any size stay integers; NaN, infinities and half surrogates are refused.

    Raises:
        ValueError: if *raw* is not JSON, or nested deeper. Depth is looked at before anything recurses.
    """
    if not nested_within(raw, nesting):
        message = f"nested deeper than {nesting} levels"
        raise ValueError(message)
    value = from_json(raw, allow_inf_nan=False)
    if _HUGE_EXPONENT.search(raw):
        _refuse_infinity(to_json(value, inf_nan_mode="constants"))
    return value


def dumps(value: Any) -> bytes:
    """Encode *value* as JSON: what pydantic can serialise, models and dataclasses included.

    Raises:
        NotJsonError: if it cannot, NaN and infinities included.
    """
    try:
        raw = to_json(value, inf_nan_mode="constants")
        _refuse_infinity(raw)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
        raise NotJsonError(str(exc)) from None
    return raw


def nested_within(raw: bytes, limit: int) -> bool:
    """Whether the JSON in *raw* has at most *limit* levels; a bound without a look at its grammar."""
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return True
    depth = 0
    for token in _BRACKETS.finditer(raw):
        bracket = raw[token.start()]
        if bracket in b"[{":
            depth += 1
            if depth > limit:
                return False
        elif bracket in b"]}":
            depth -= 1
    return True


def fingerprint(tool: str, reason: str, error_type: str, message: str) -> str:
    """Name the cause of a dead letter: equal for messages that differ only in numbers, ids and white space."""
    normal = _VARIABLE_TEXT.sub(lambda found: " " if found.group().isspace() else "#", message)
    return hashlib.sha256(f"{tool}\0{reason}\0{error_type}\0{normal}".encode(errors="replace")).hexdigest()[:16]


def dead_letter_fields(
    *,
    entry_id: str,
    reason: str,
    tool: str,
    failure: Failed,
    consumer: str,
    traceparent: str | None,
    reply: bytes | None = None,
) -> list[str | bytes]:
    """Encode what a worker knows of a dead letter; the script that writes it adds the times and the attempts."""
    fields: list[str | bytes] = [
        "dlq.id", entry_id,
        "dlq.reason", reason,
        "dlq.error_type", failure.type,
        "dlq.error_message", failure.message,
        "dlq.consumer", consumer,
        "dlq.fingerprint", fingerprint(tool, reason, failure.type, failure.message),
    ]  # fmt: skip
    if failure.stack:
        fields += ("dlq.stack", failure.stack.encode(errors="replace")[:MAX_STACK_BYTES])
    if traceparent:
        fields += ("dlq.traceparent", traceparent)
    if reply is not None:
        fields += ("dlq.reply", reply)
    return fields


def decode_dead_letter(letter_id: str, fields: Sequence[bytes], original: Sequence[bytes] | None) -> DeadLetter:
    """Decode a dead letter. *original* is the entry that `dlq.raw` held, where it was kept whole.

    Raises:
        MalformedEntryError: if it was not written by a worker.
    """
    about: dict[str, str] = {}
    kept: list[bytes] = []
    try:
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if name.startswith(b"dlq."):
                about[name[4:].decode()] = value.decode(errors="replace")
            else:
                kept += (name, value)
        first = about.get("first_delivered")
        return DeadLetter(
            id=letter_id,
            entry_id=about["id"],
            reason=about["reason"],
            error_type=about["error_type"],
            error_message=about["error_message"],
            stack=about.get("stack"),
            attempts=decode_attempts(about.get("attempts")),
            consumer=about["consumer"],
            first_delivered_ms=int(first) if first else None,
            at_ms=int(about["at"]),
            fingerprint=about["fingerprint"],
            traceparent=about.get("traceparent"),
            reply=about.get("reply"),
            fields=kept if original is None else list(original),
        )
    except (KeyError, ValueError) as exc:
        message = f"{letter_id} is not a dead letter of ours: {exc!r}"
        raise MalformedEntryError(message) from None


def decode_attempts(raw: str | bytes | None) -> list[Attempt]:
    """Decode an entry's list of attempts; what is absent is empty.

    Raises:
        ValueError: if it is not such a list.
    """
    if not raw:
        return []
    elements = from_json(raw)
    try:
        return [
            Attempt(
                consumer=str(e["consumer"]),
                attempt=int(e["attempt"]),
                start_ms=int(e["start"]),
                end_ms=int(e["end"]) if "end" in e else None,
                error=e.get("error"),
            )
            for e in elements
        ]
    except (TypeError, KeyError, AttributeError) as exc:
        message = f"not a list of attempts: {exc!r}"
        raise ValueError(message) from None


def replay_fields(fields: Sequence[bytes], *, call_id: str, replay_of: str) -> list[str | bytes]:
    """Turn the original fields of a dead letter into those of a new call, which nobody waits for.

    The form stays what it was. Reply stream, deadline, idempotency key and trace are left out; the rest, unknown
    fields included, is carried over byte for byte.

    Raises:
        MalformedEntryError: if the original is a payload that is not a JSON object.
    """
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    names = {name for name, _ in pairs}
    if _PAYLOAD in names and names.isdisjoint(_REQUIRED):
        payload = next(value for name, value in pairs if name == _PAYLOAD)
        try:
            body = from_json(payload)
            if not isinstance(body, dict):
                raise TypeError  # noqa: TRY301
        except (ValueError, TypeError):
            message = "its payload is not a JSON object"
            raise MalformedEntryError(message) from None
        body = {name: value for name, value in body.items() if name not in _NOT_REPLAYED}
        body |= {"id": call_id, "replay_of": replay_of}
        kept = [part for name, value in pairs if name != _PAYLOAD and name not in _TRACE for part in (name, value)]
        return ["payload", dumps(body), *kept]
    dropped = {name.encode() for name in _NOT_REPLAYED}
    kept = [part for name, value in pairs if name not in dropped for part in (name, value)]
    return ["v", str(VERSION), "id", call_id, *kept, "replay_of", replay_of]


def trace_of(fields: Sequence[bytes]) -> TraceFields:
    """Read the trace fields that stand in the entry itself, whatever else it is."""
    return _trace(dict(zip(fields[::2], fields[1::2], strict=False)))


class Codec:
    """Encodes and decodes the entries of one plane; knows its reply streams and its limits."""

    def __init__(self, keys: Keys, limits: Limits) -> None:
        self._reply_prefix = keys.reply_prefix
        self.limits = limits

    # ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────

    def encode_call(self, call: ToolCall, *, trace: TraceFields | None = None) -> list[str | bytes]:
        """Encode *call* in the form of fields, always in the same order; *trace* wins over its own trace context.

        Raises:
            TooLarge: if the arguments are over a limit.
            MalformedEntryError: for anything else that a worker would refuse.
        """
        try:
            args = dumps(call.args)
            self._check_names(call)
        except ValueError as exc:
            raise MalformedEntryError(str(exc)) from None
        if len(args) > self.limits.args_bytes:
            message = f"arguments of {len(args)} bytes; {self.limits.args_bytes} are allowed"
            raise TooLarge(message)
        if not nested_within(args, self.limits.nesting):
            message = f"arguments nested deeper than {self.limits.nesting} levels"
            raise TooLarge(message)
        fields: list[str | bytes] = ["v", str(VERSION), "id", call.id, "tool", call.tool, "args", args]
        if call.reply_to is not None:
            fields += ("reply_to", call.reply_to)
        if call.deadline_ms is not None:
            fields += ("deadline", str(call.deadline_ms))
        for name in _OPTIONAL_TEXT:
            value = getattr(call, name)
            if value is not None:
                fields += (name, value)
        for name in TRACE_FIELDS:
            value = getattr(trace or call.trace, name)
            if value:
                fields += (name, value)
        for name, value in call.meta.items():
            fields += (f"meta.{name}".encode(errors="surrogateescape"), value.encode(errors="surrogateescape"))
        return fields

    def decode_call(self, entry_id: str, fields: Sequence[bytes]) -> ToolCall | NewerCall:
        """Decode an entry of either form: fields, or the single `payload` of older producers.

        Raises:
            MalformedEntryError: whatever the bytes are, and nothing else.
        """
        values: dict[bytes, bytes] = {}
        try:
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            if _PAYLOAD in values and values.keys().isdisjoint(_REQUIRED):
                return self._from_payload(entry_id, fields, values)
            if len(values) * 2 != len(fields):
                _refuse_repeated(fields)
            return self._from_fields(values)
        except ValueError as exc:
            raise self._malformed(str(exc), values) from None

    def _from_fields(self, values: Mapping[bytes, bytes]) -> ToolCall | NewerCall:
        version = _version(values.get(b"v"))
        call_id = _id(_text(values, b"id"))
        reply_to = self._reply_to(_text(values, b"reply_to"))
        trace = _trace(values)
        if version != VERSION:
            return NewerCall(version, call_id, _tool_or_none(values.get(b"tool")), reply_to, trace)
        raw_args = values.get(b"args")
        if raw_args is None:
            _refuse("field args is missing")
        if len(raw_args) > self.limits.args_bytes:
            _refuse(f"args has {len(raw_args)} bytes; {self.limits.args_bytes} are allowed")
        return ToolCall(
            call_id,
            _tool(_text(values, b"tool")),
            _object("args", loads(raw_args, nesting=self.limits.nesting)),
            reply_to,
            _deadline(values.get(b"deadline")),
            _text(values, b"idem"),
            trace,
            _text(values, b"tool_call_id"),
            _text(values, b"principal"),
            _text(values, b"attempt_of"),
            _text(values, b"replay_of"),
            {
                name[5:].decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
                for name, value in values.items()
                if name.startswith(b"meta.")
            },
        )

    def _from_payload(
        self, entry_id: str, fields: Sequence[bytes], values: Mapping[bytes, bytes]
    ) -> ToolCall | NewerCall:
        if fields[::2].count(_PAYLOAD) > 1:
            _refuse("field payload is given twice")
        raw = values[_PAYLOAD]
        # The older form has no size of its own: the whole of it may be as large as args.
        if len(raw) > self.limits.args_bytes:
            _refuse(f"payload has {len(raw)} bytes; {self.limits.args_bytes} are allowed")
        body = _object("payload", loads(raw, nesting=self.limits.nesting + 1))
        _refuse_repeated_names(raw)
        body = {name: value for name, value in body.items() if value is not None}
        version = body.get("v", VERSION)
        if type(version) is not int or version < 1:
            _refuse("v is not a version number")
        call_id = _id(_string(body, "id") if "id" in body else entry_id)
        reply_to = self._reply_to(_string(body, "reply_to"))
        inside = {name.encode(): body[name].encode() for name in TRACE_FIELDS if isinstance(body.get(name), str)}
        trace = _trace({**inside, **{name: values[name] for name in _TRACE if name in values}})
        tool = _string(body, "tool")
        if version != VERSION:
            return NewerCall(version, call_id, _tool_or_none((tool or "").encode()), reply_to, trace)
        deadline = body.get("deadline")
        if deadline is not None and (type(deadline) is not int or deadline < 0):
            _refuse("deadline is not unix milliseconds")
        meta = _object("meta", body.get("meta", {}))
        return ToolCall(
            call_id,
            _tool(tool),
            _object("args", body.get("args")),
            reply_to,
            None if deadline is None else _deadline(b"%d" % deadline),
            _string(body, "idem"),
            trace,
            _string(body, "tool_call_id"),
            _string(body, "principal"),
            _string(body, "attempt_of"),
            _string(body, "replay_of"),
            {name: value if isinstance(value, str) else dumps(value).decode() for name, value in meta.items()},
        )

    def decode_payload(self, fields: Sequence[bytes]) -> dict[str, Any]:
        """Decode an entry for a program that replies by itself: the JSON object of `payload` as it is.

        An entry without `payload` gives its fields as a dict, with `args` decoded if it is JSON.

        Raises:
            MalformedEntryError: if `payload` is no JSON object, or a field is not UTF-8.
        """
        values: dict[bytes, bytes] = {}
        try:
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            raw = values.get(_PAYLOAD)
            if raw is not None:
                return _object("payload", loads(raw, nesting=self.limits.nesting + 1))
            texts: dict[str, Any] = {name.decode(): value.decode() for name, value in values.items()}
            if b"args" in values:
                texts["args"] = loads(values[b"args"], nesting=self.limits.nesting)
        except ValueError as exc:
            raise self._malformed(str(exc), values) from None
        return texts

    def _malformed(self, reason: str, values: Mapping[bytes, bytes]) -> MalformedEntryError:
        """Say why, with what a caller needs to be answered as far as it can be read."""
        found: dict[str, Any] = {}
        payload = values.get(_PAYLOAD)
        if payload is not None and values.keys().isdisjoint(_REQUIRED):
            if len(payload) <= self.limits.args_bytes:
                with suppress(ValueError):
                    found = _object("payload", loads(payload, nesting=self.limits.nesting + 1))
        else:
            for name in ("id", "reply_to", "tool"):
                with suppress(ValueError):
                    found[name] = _text(values, name.encode())
        valid: dict[str, str] = {}
        for name, check in (("id", _id), ("reply_to", self._reply_to), ("tool", _tool)):
            with suppress(ValueError):
                value = found.get(name)
                if isinstance(value, str):
                    valid[name] = check(value) or ""
        return MalformedEntryError(
            reason,
            call_id=valid.get("id", ""),
            reply_to=valid.get("reply_to"),
            tool=valid.get("tool"),
            trace=_trace(values),
        )

    def _reply_to(self, text: str | None) -> str | None:
        if text is None or (text.startswith(self._reply_prefix) and len(text) <= MAX_KEY_CHARS):
            return text
        return _refuse(f"reply_to does not match {self._reply_prefix}*")

    def _check_names(self, call: ToolCall) -> None:
        _id(call.id)
        _tool(call.tool)
        self._reply_to(call.reply_to)

    # ── replies ────────────────────────────────────────────────────────────────────────────────────────────────

    def encode_reply(
        self,
        *,
        call_id: str,
        entry_id: str,
        outcome: Outcome,
        attempt: int,
        consumer: str,
        timings: Timings,
        traceparent: str | None,
    ) -> list[str | bytes]:
        """Encode a final reply."""
        fields: list[str | bytes] = ["v", "1", "id", call_id, "entry", entry_id, "status"]
        if isinstance(outcome, Succeeded):
            fields += ("ok", "result", outcome.result)
        else:
            fields += ("error", "error", _encode_failure(outcome))
        fields += ("attempt", str(attempt), "consumer", consumer, "timings", _encode_timings(timings))
        if traceparent:
            fields += ("traceparent", traceparent)
        return fields

    def decode_reply(self, fields: Sequence[bytes]) -> Reply:
        """Decode a final reply.

        Raises:
            MalformedEntryError: whatever the bytes are, and nothing else.
        """
        try:
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            status = values.get(b"status")
            if status not in {b"ok", b"error"}:
                _refuse(f"status is {status!r}")
            ok = status == b"ok"
            timings = _object("timings", loads(values.get(b"timings", b"{}"), nesting=2))
            return Reply(
                call_id=_text(values, b"id") or "",
                entry_id=_text(values, b"entry") or "",
                status="ok" if ok else "error",
                result=from_json(values.get(b"result", b"null")) if ok else None,
                failure=None if ok else _decode_failure(values.get(b"error", b"")),
                attempt=int(values.get(b"attempt", b"0")),
                consumer=_text(values, b"consumer") or "",
                timings=Timings(**{name: _milliseconds(timings.get(name)) for name in Timings.__slots__}),
                traceparent=_trace(values).traceparent,
            )
        except ValueError as exc:
            raise MalformedEntryError(str(exc)) from None


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def _refuse_infinity(raw: bytes) -> None:
    if b"NaN" in raw or b"Infinity" in raw:
        from_json(raw, allow_inf_nan=False)


def _refuse_repeated(fields: Sequence[bytes]) -> None:
    seen: set[bytes] = set()
    for name in fields[::2]:
        if name in seen and name in _TABLE:
            _refuse(f"field {name.decode()} is given twice")
        seen.add(name)


def _refuse_repeated_names(raw: bytes) -> None:
    """Refuse a JSON object that gives a name of the table twice; our fast decoder would keep the last."""
    if all(raw.count(b'"%s"' % name) < 2 for name in _TABLE):  # noqa: PLR2004
        return

    def pairs(found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return found

    top: list[tuple[str, Any]] = json.loads(raw, object_pairs_hook=pairs)
    names = [name for name, _ in top]
    for name in CALL_FIELDS:
        if names.count(name) > 1:
            _refuse(f"{name} is given twice")


def _version(raw: bytes | None) -> int:
    if raw == b"1":
        return 1
    if raw is None or not _NUMBER.fullmatch(raw) or int(raw) == 0:
        return _refuse("v is missing, or not a version number")
    return int(raw)


def _id(text: str | None) -> str:
    if text is None or not 0 < len(text) <= MAX_ID_CHARS:
        return _refuse(f"id is missing, empty or longer than {MAX_ID_CHARS} characters")
    return text


def _tool(text: str | None) -> str:
    if text is None or not _TOOL.fullmatch(text):
        return _refuse("tool is missing, or not 1-128 of A-Za-z0-9_.- that begin with a letter or digit")
    return text


def _tool_or_none(raw: bytes | None) -> str | None:
    with suppress(ValueError):
        return _tool((raw or b"").decode())
    return None


def _deadline(raw: bytes | None) -> int | None:
    if raw is None:
        return None
    if not _NUMBER.fullmatch(raw):
        return _refuse("deadline is not unix milliseconds")
    return int(raw)


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return _refuse(f"{name} is not a JSON object")
    return value


def _text(values: Mapping[bytes, bytes], name: bytes) -> str | None:
    raw = values.get(name)
    return None if raw is None else raw.decode()


def _string(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        return _refuse(f"{name} is not a string")
    return value


def _trace(values: Mapping[bytes, bytes]) -> TraceFields:
    """Read trace fields; what cannot be read is ignored and never makes an entry malformed."""
    found = [values.get(name) for name in _TRACE]
    if not any(found):
        return NO_TRACE
    texts: list[str | None] = []
    for raw in found:
        text = None
        if raw and len(raw) <= MAX_TRACE_BYTES:
            with suppress(UnicodeDecodeError):
                text = raw.decode("ascii")
        texts.append(text)
    return TraceFields(*texts)


def _encode_failure(failure: Failed) -> bytes:
    body = {"type": failure.type, "message": failure.message, "retryable": failure.retryable, "detail": failure.detail}
    return dumps(body)


def _decode_failure(raw: bytes) -> Failed:
    body = _object("error", from_json(raw))
    kind = body.get("type")
    return Failed(
        # A type that we do not know comes from a newer worker: it is one of ours, not the tool's.
        type=cast("ErrorType", kind) if kind in _ERROR_TYPES else "worker_error",
        message=str(body.get("message", "")),
        retryable=body.get("retryable") is True,
        detail=body.get("detail"),
    )


def _encode_timings(timings: Timings) -> bytes:
    parts = [
        b'"%s":%.3f' % (name, value)
        for name, value in (
            (b"queue", timings.queue),
            (b"admission", timings.admission),
            (b"execute", timings.execute),
            (b"settle", timings.settle),
        )
        if value is not None
    ]
    return b"{%s}" % b",".join(parts)


def _milliseconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
