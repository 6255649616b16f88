"""How spans of ours lie on the wire, with a blank for all that differs between calls that are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from toolspan.telemetry import attributes as at
from toolspan.telemetry.otlp import spans as otlp
from toolspan.telemetry.otlp.pattern import Blank, framed
from toolspan.telemetry.otlp.wire import pair, sized, varint
from toolspan.telemetry.otlp.wire import text as utf8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import SpanKind

    from toolspan.telemetry.otlp.pattern import Part

Failing: TypeAlias = tuple[str, int | None]
"""The `error.type` of a span, and how long the message of its status is, if that is one of an error."""

_TRACE_ID, _SPAN_ID, _TIME, _MILLISECONDS = Blank("16s"), Blank("8s"), Blank("Q"), Blank("d")
_ERROR_CODE: Final = 2


def span(
    name: str,
    kind: SpanKind,
    attributes: Sequence[Part],
    *,
    parent: Literal["none", "ours", "remote"],
    failing: Failing | None = None,
) -> list[Part]:
    """Write one span; a parent that is *remote* is also linked to.

    Blank are: trace id, span id, that of the parent, start, end, those of the *attributes*, trace id and span id of the
    link, message.
    """
    above = [] if parent == "none" else framed(otlp.PARENT, [_SPAN_ID])
    error = known({at.ERROR_TYPE: failing[0]}) if failing else []
    return framed(
        otlp.SPANS,
        [
            *framed(otlp.TRACE_ID, [_TRACE_ID]),
            *framed(otlp.SPAN_ID, [_SPAN_ID]),
            *above,
            sized(otlp.NAME, utf8(name)) + otlp.KIND + varint(kind.value + 1),
            *(otlp.START, _TIME, otlp.END, _TIME),
            *attributes,
            *error,
            *(_LINK if parent == "remote" else ()),
            *framed(otlp.STATUS, _status(failing)),
            otlp.FLAGS + (otlp.REMOTE if parent == "remote" else otlp.LOCAL),
        ],
    )


def known(pairs: Mapping[str, Any]) -> list[Part]:
    """Write attributes whose values are the same in all calls that are alike."""
    return [sized(otlp.ATTRIBUTES, pair(name, value)) for name, value in pairs.items()]


def text(name: str, size: int) -> list[Part]:
    """Write an attribute whose value is a text of so many bytes."""
    return _blank(name, "?" * size, Blank(f"{size}s"))


def number(name: str, size: int) -> list[Part]:
    """Write an attribute whose value is a whole number that takes so many bytes."""
    return _blank(name, 1 << 7 * (size - 1), Blank(f"{size}s"))


def milliseconds(names: Sequence[str]) -> list[Part]:
    """Write attributes whose values are numbers."""
    return [part for name in names for part in _blank(name, 0.0, _MILLISECONDS)]


def _blank(name: str, example: Any, blank: Blank) -> list[Part]:
    """Write an attribute whose value is as long as that of the *example*, of which the *blank* is the end."""
    written = sized(otlp.ATTRIBUTES, pair(name, example))
    return [written[: len(written) - blank.size], blank]


def _status(failing: Failing | None) -> list[Part]:
    # Without a message it is none of ours.
    if failing is None or failing[1] is None:
        return []
    message = framed(otlp.STATUS_MESSAGE, [Blank(f"{failing[1]}s")]) if failing[1] else []
    return [*message, otlp.STATUS_CODE + varint(_ERROR_CODE)]


_LINK: Final = framed(
    otlp.LINKS,
    [*framed(otlp.TRACE_ID, [_TRACE_ID]), *framed(otlp.SPAN_ID, [_SPAN_ID]), otlp.LINK_FLAGS + otlp.REMOTE],
)
