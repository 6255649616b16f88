"""JSON as we read and write it: of bounded depth, without NaN, infinities and half surrogates."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic_core import PydanticSerializationError, from_json, to_json

# A string up to its end or to the end of the text, so that no input is looked at twice; or a bracket that we count.
_BRACKETS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
# What makes a number too large for a double: an exponent of three digits, or very many digits before a smaller one.
_HUGE_EXPONENT: Final = re.compile(rb"[eE]\+?[0-9]{3}")
_LOWER_E, _UPPER_E, _UPPER_N, _UPPER_I = b"eENI"
_MANY: Final = 200
_TOO_MANY: Final = 4_301
"""More digits than the decoder reads of an integer; the encoder writes any."""

_DIGITS_AS_0: Final = bytes.maketrans(b"123456789", b"0" * 9)


class NotJsonError(ValueError):
    """A value cannot be written as JSON."""


def loads(raw: bytes, *, nesting: int) -> Any:
    """Decode JSON of at most *nesting* levels; the outermost array or object is level 1.

    Integers stay integers, whatever their size up to 4300 digits.

    Raises:
        ValueError: if *raw* is not JSON, or nested deeper. Depth is looked at before anything recurses.
    """
    if len(raw) > nesting and not nested_within(raw, nesting):
        message = f"nested deeper than {nesting} levels"
        raise ValueError(message)
    value = from_json(raw, allow_inf_nan=False)
    # Most have no exponent at all, and a look for one byte costs next to nothing.
    exponent = (_LOWER_E in raw or _UPPER_E in raw) and _HUGE_EXPONENT.search(raw)
    if exponent or (len(raw) >= _MANY and _has_digits_in_a_row(raw, _MANY)):
        # The decoder refuses the names of infinities, and makes one of a number that is too large.
        _refuse_infinity(to_json(value, inf_nan_mode="constants"))
    return value


def dumps(value: Any) -> bytes:
    """Encode *value* as JSON: what pydantic can serialise, models and dataclasses included.

    Raises:
        NotJsonError: if it cannot, or if no decoder of ours could read it: NaN, infinities, integers without measure.
    """
    try:
        raw = to_json(value, inf_nan_mode="constants")
        # A look for one byte costs a tenth of one for a word, and most have neither.
        if _UPPER_N in raw or _UPPER_I in raw:
            _refuse_infinity(raw)
        if len(raw) >= _TOO_MANY and _has_digits_in_a_row(raw, _TOO_MANY):
            # Or are they digits of a text?
            from_json(raw)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
        raise NotJsonError(str(exc)) from None
    return raw


def nested_within(raw: bytes, limit: int) -> bool:
    """Whether the JSON in *raw* has at most *limit* levels; a bound without a look at its grammar."""
    if len(raw) <= limit or raw.count(b"[") + raw.count(b"{") <= limit:
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


def _has_digits_in_a_row(raw: bytes, count: int) -> bool:
    """Look for so many, in a text or not: all digits as one, a search for bytes beats a regular expression by far."""
    return b"0" * count in raw.translate(_DIGITS_AS_0)


def _refuse_infinity(raw: bytes) -> None:
    if b"NaN" in raw or b"Infinity" in raw:
        from_json(raw, allow_inf_nan=False)
