"""Entries as nobody should write them: good ones of every kind, broken in places where a decoder may break too."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec import CALL_FIELDS, MAX_FIELDS, MAX_ID_CHARS, MAX_KEY_CHARS, MAX_TRACE_BYTES, TRACE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolspan.codec import Limits

Fields = list[bytes]

TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TEXTS: Final = (
    "",
    "a",
    "é",
    "\0",
    "\x7f",
    "\u2028",
    "\U0001f600",
    "0",
    "null",
    "sg:reply:g",
    "\\",
    '"',
    "a" * 40,
    "𝄞" * 9,
)
NUMBERS: Final = (
    "0",
    "-0",
    "-0.0",
    "1",
    "1.0",
    "-1",
    "1e3",
    "1e-999",
    "1e999",
    "9" * 310,
    "9" * 4_301,
    "18446744073709551616",
)
ODD: Final = (
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "0x1",
    "tru",
    "'a'",
    '"\\ud800"',
    '"\\udc00"',
    '"\\x"',
    '"\n"',
    "",
    " ",
    "\ufeff",
)
LETTERS: Final = (
    "id",
    "reason",
    "error_type",
    "error_message",
    "stack",
    "attempts",
    "consumer",
    "first_delivered",
    "at",
    "fingerprint",
    "reply",
    "raw",
)
REPLIES: Final = ("status", "result", "error", "entry", "attempt", "consumer", "timings", "seq")
NAMES: Final = tuple(
    name.encode()
    for name in (
        *CALL_FIELDS,
        *TRACE_FIELDS,
        *REPLIES,
        *(f"dlq.{name}" for name in LETTERS),
        *("payload", "meta", "meta.", "meta.x", "dlq.", "\0", ""),
    )
)
BYTES: Final = (
    b"",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc3",
    b"1",
    b"2",
    b"01",
    b"+1",
    b" 1",
    b"1_0",
    "\uff11".encode(),
    b"9" * 400,
)


class Entries:
    """Gives one entry after the other; the same for the same *seed*."""

    def __init__(self, seed: int, limits: Limits) -> None:
        self._random = random.Random(seed)
        self._limits = limits
        self._kinds: tuple[Callable[[], Fields], ...] = (
            self._call,
            self._call,
            self._payload,
            self._reply,
            self._letter,
        )
        self._breaks: tuple[Callable[[Fields], None], ...] = (
            self._exchange_bytes,
            self._exchange_value,
            self._exchange_json,
            self._repeat,
            self._leave_out,
            self._move,
            self._add_unknown,
            self._measure,
        )

    def next(self) -> Fields:
        """Make another: one in five as it should be, the others with up to four things wrong."""
        fields: Fields = self._pick(self._kinds)()
        for _ in range(self._random.randrange(5)):
            if fields:
                self._pick(self._breaks)(fields)
        if self._random.random() < 0.0005:
            fields += [
                b"meta.%d" % n if n % 2 else b""
                for n in range(2 * MAX_FIELDS - len(fields) + self._random.randrange(-2, 4))
            ]
        return fields

    # Good ones.

    def _call(self) -> Fields:
        found: dict[str, Any] = {"v": "1", "id": "c1", "tool": "echo", "args": self._json(self._arguments())}
        chosen = [name for name in (*CALL_FIELDS, *TRACE_FIELDS) if name not in found and self._random.random() < 0.4]
        found |= {name: self._value(name) for name in chosen}
        found |= {f"meta.{self._text()}": self._text() for _ in range(self._random.randrange(2))}
        return _wire(found)

    def _payload(self) -> Fields:
        body: dict[str, Any] = {"tool": "echo", "args": self._arguments()}
        body |= {name: self._value(name) for name in (*CALL_FIELDS, *TRACE_FIELDS) if self._random.random() < 0.3}
        body |= {"tool": "echo", "args": self._arguments(), "v": self._pick((1, 1, 1, 2, "1", 1.0, True))}
        if "deadline" in body:
            body["deadline"] = int(body["deadline"])
        if self._random.random() < 0.3:
            body["meta"] = self._arguments()
        beside = {name: self._value(name) for name in TRACE_FIELDS if self._random.random() < 0.2}
        return _wire({"payload": self._json(body), **beside})

    def _reply(self) -> Fields:
        status = self._pick(("ok", "error", "progress"))
        error = {"type": self._pick(("tool_error", "timeout", "new")), "message": self._text(), "retryable": True}
        found: dict[str, Any] = {
            "v": "1",
            "id": self._text(),
            "entry": "1-1",
            "status": status,
            "error" if status == "error" else "result": self._json(error if status == "error" else self._any()),
            "attempt": str(self._random.randrange(9)),
            "consumer": self._text(),
            "timings": self._json({"queue": 0.125, "execute": self._pick((1, 2.5, None, "x", True))}),
        }
        if status == "progress":
            found["seq"] = "7"
        return _wire(found)

    def _letter(self) -> Fields:
        about = {name: self._text() for name in LETTERS if name not in {"raw", "stack"} or self._random.random() < 0.2}
        attempts = [{"consumer": "w", "attempt": n, "start": n, "end": n, "error": "worker_lost"} for n in range(1, 3)]
        about |= {"attempts": self._json(attempts), "first_delivered": "7", "at": "8"}
        return [*self._pick((self._call, self._payload))(), *_wire({f"dlq.{name}": one for name, one in about.items()})]

    def _value(self, name: str) -> str:
        values = {"reply_to": "sg:reply:g", "deadline": "1795000000000", "traceparent": TRACEPARENT, "v": "1"}
        return values.get(name) or self._text()

    # What breaks them.

    def _exchange_bytes(self, fields: Fields) -> None:
        place = self._place(fields)
        part = bytearray(fields[place])
        at, length = self._random.randrange(len(part) + 1), self._random.randrange(3)
        part[at : at + length] = self._random.randbytes(self._random.randrange(4))
        fields[place] = bytes(part)

    def _exchange_value(self, fields: Fields) -> None:
        fields[self._place(fields)] = self._pick((self._pick(BYTES), self._pick(NAMES), self._text().encode()))

    def _exchange_json(self, fields: Fields) -> None:
        """Exchange one token of what may be JSON: a name is spelt otherwise, a number becomes a strange one."""
        places = [place for place, part in enumerate(fields) if part[:1] in {b"{", b"["}]
        if not places:
            return
        place = self._pick(places)
        text = fields[place].decode(errors="surrogateescape")
        at = self._random.randrange(len(text))
        what = self._pick(
            (*NUMBERS, *ODD, "{", "}", "[", "]", ",", ":", '"id":"c2",', '"\\u0069d":"c2",', '"args":{},', "null")
        )
        if self._random.random() < 0.3 and text[at].isalpha():
            what = f"\\u{ord(text[at]):04x}"
        fields[place] = (text[:at] + what + text[at + self._random.randrange(2) :]).encode(errors="surrogatepass")

    def _repeat(self, fields: Fields) -> None:
        place = self._place(fields) & ~1
        fields += [fields[place], self._pick((*fields[place + 1 : place + 2], b"1", b"c2"))]

    def _leave_out(self, fields: Fields) -> None:
        place = self._place(fields)
        if self._random.random() < 0.8:
            del fields[place & ~1 : (place | 1) + 1]
        else:
            del fields[place]

    def _move(self, fields: Fields) -> None:
        place, to = self._place(fields) & ~1, self._place(fields) & ~1
        pair = fields[place : place + 2]
        del fields[place : place + 2]
        fields[to:to] = pair

    def _add_unknown(self, fields: Fields) -> None:
        place = self._place(fields) & ~1
        fields[place:place] = [
            self._pick(NAMES),
            self._pick((self._pick(BYTES), self._json(self._arguments()).encode())),
        ]

    def _measure(self, fields: Fields) -> None:
        """Bring one value to the edge of its limit."""
        names = fields[::2]
        name = self._pick(names)
        place = 2 * names.index(name) + 1
        edge = self._random.randrange(-1, 2)
        if place >= len(fields):
            return
        match name:
            case b"args" | b"payload" if self._random.random() < 0.5:
                levels = self._limits.nesting + edge - (name == b"args")
                deep = "[" * levels + "]" * levels
                fields[place] = (
                    f'{{"a":{deep}}}' if name == b"args" else f'{{"tool":"t","args":{{"a":{deep}}}}}'
                ).encode()
            case b"args" | b"payload":
                room = self._limits.args_bytes + edge - len(fields[place])
                fields[place] += b" " * max(room, 0)
            case b"id" | b"idem":
                fields[place] = (self._pick(("x", "é", "𝄞")) * (MAX_ID_CHARS + edge)).encode()
            case b"reply_to":
                fields[place] = b"sg:reply:" + b"x" * (MAX_KEY_CHARS + edge - len("sg:reply:"))
            case b"tool":
                fields[place] = b"x" * (128 + edge)
            case b"deadline" | b"v" | b"attempt" | b"seq" | b"dlq.at":
                fields[place] = b"9" * (15 + edge)
            case b"traceparent" | b"tracestate" | b"baggage":
                fields[place] = b"x" * (MAX_TRACE_BYTES + edge)

    # Parts.

    def _arguments(self) -> dict[str, Any]:
        return {self._text(): self._any() for _ in range(self._random.randrange(4))}

    def _any(self, levels: int = 2) -> Any:
        kind = self._random.randrange(9 if levels else 6)
        match kind:
            case 0:
                return self._pick((None, True, False))
            case 1:
                return self._random.randrange(-(2**70), 2**70)
            case 2:
                return self._random.uniform(-1e300, 1e300)
            case 6:
                return [self._any(levels - 1) for _ in range(self._random.randrange(3))]
            case 7 | 8:
                return {self._text(): self._any(levels - 1) for _ in range(self._random.randrange(3))}
        return self._text()

    def _text(self) -> str:
        return "".join(self._pick(TEXTS) for _ in range(1 + (self._random.random() < 0.3)))

    def _json(self, value: Any) -> str:
        return json.dumps(
            value, ensure_ascii=self._random.random() < 0.5, separators=self._pick(((",", ":"), (", ", ": ")))
        )

    def _place(self, fields: Fields) -> int:
        return self._random.randrange(len(fields))

    def _pick(self, some: Any) -> Any:
        return some[self._random.randrange(len(some))]


def _wire(found: dict[str, Any]) -> Fields:
    return [part.encode() for name, value in found.items() for part in (name, value)]
