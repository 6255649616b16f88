"""Encodes and decodes the entries of one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolspan.codec import calls, replies
from toolspan.codec.dead_letters import replay_fields
from toolspan.codec.fields import TRACE_FIELDS, by_name
from toolspan.codec.limits import Limits, Rules
from toolspan.codec.malformed import malformed
from toolspan.codec.payload import for_program, from_payload, is_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.model import NewerCall, ToolCall, TraceFields


class Codec:
    """Knows the reply streams of a plane and the limits of its entries."""

    def __init__(self, keys: Keys, limits: Limits) -> None:
        self.limits = limits
        self._rules = Rules(keys.reply_prefix, limits)

    def encode_call(self, call: ToolCall, *, trace: TraceFields | None = None) -> list[str | bytes]:
        """Encode *call* in the form of fields, always in the same order; *trace* wins over its own trace context.

        Raises:
            TooLarge: if the arguments are over a limit, or there are more fields than a script can write.
            MalformedEntryError: for anything else that a worker would refuse.
        """
        return calls.encode(call, trace or call.trace, self._rules)

    def decode_call(self, entry_id: str, fields: Sequence[bytes]) -> ToolCall | NewerCall:
        """Decode an entry of either form: fields, or the single `payload` of older producers.

        Raises:
            MalformedEntryError: whatever the bytes are, and nothing else.
        """
        return calls.from_usual(fields, self._rules) or self._decode_unusual(entry_id, fields)

    def _decode_unusual(self, entry_id: str, fields: Sequence[bytes]) -> ToolCall | NewerCall:
        values: dict[bytes, bytes] = {}
        try:
            values = by_name(fields)
            if is_payload(values):
                return from_payload(entry_id, fields, values, self._rules)
            return calls.from_fields(fields, values, self._rules)
        except ValueError as exc:
            raise malformed(str(exc), values, self._rules) from None

    def encode_replay(
        self,
        fields: Sequence[bytes],
        *,
        call_id: str,
        replay_of: str,
        trace: TraceFields,
        reply_to: str | None = None,
    ) -> list[str | bytes]:
        """Turn the original fields of a dead letter into those of a new call, as `replay_fields` does, with *trace*.

        Raises:
            TooLarge: if it has more fields than a script can write.
            MalformedEntryError: if it would be malformed: the original was, or has grown over a limit by its new id.
        """
        replayed = replay_fields(fields, call_id=call_id, replay_of=replay_of, reply_to=reply_to)
        replayed += [part for name in TRACE_FIELDS if (value := getattr(trace, name)) for part in (name, value)]
        calls.refuse_too_many(replayed)
        self.decode_call(replay_of, [part.encode() if isinstance(part, str) else part for part in replayed])
        return replayed

    def decode_payload(self, fields: Sequence[bytes]) -> dict[str, Any]:
        """Decode an entry for a program that replies by itself: the JSON object of `payload` as it is.

        An entry without `payload` gives its fields as a dict, with `args` decoded if it is JSON.

        Raises:
            MalformedEntryError: if `payload` is no JSON object, a field is not UTF-8, or either is nested too deep.
        """
        values: dict[bytes, bytes] = {}
        try:
            values = by_name(fields)
            return for_program(values, self.limits)
        except ValueError as exc:
            raise malformed(str(exc), values, self._rules) from None

    encode_reply = staticmethod(replies.encode_reply)
    decode_answer = staticmethod(replies.decode_answer)
    decode_reply = staticmethod(replies.decode_reply)
