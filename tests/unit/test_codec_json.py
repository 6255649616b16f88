"""JSON as we read and write it: what is written can be read, and no number is silently another."""

from __future__ import annotations

from typing import Any

import pytest

from toolspan.codec import NotJsonError, dumps, loads, nested_within

MOST_DIGITS = 4_300
INFINITIES = (
    *(f"1e{exponent}" for exponent in ("309", "400", "500", "999", "1000", "+309", "00309")),
    *("1E309", "-1E999", "0.1e310", "9" * 310 + ".0", "9" * 250 + "e99", "9" * 300 + "E9"),
)
FINITE = {
    "1e308": 1e308,
    "1E+308": 1e308,
    "1e-999": 0.0,
    "-0.0": -0.0,
    "9" * 300 + ".0": float("9" * 300),
    "9" * MOST_DIGITS: int("9" * MOST_DIGITS),
    "0." + "9" * 5_000: 1.0,
    "1.5E1": 15.0,
    '"1e999 %s"' % ("9" * 5_000): "1e999 " + "9" * 5_000,
    '"NaN 1e999"': "NaN 1e999",
}


@pytest.mark.parametrize("raw", INFINITIES)
def test_a_number_that_no_double_holds_is_refused(raw: str) -> None:
    for text in (raw, f'{{"n":{raw}}}', f"[1,{raw}]"):
        with pytest.raises(ValueError, match=r"."):
            loads(text.encode(), nesting=9)


@pytest.mark.parametrize("raw", FINITE)
def test_every_other_number_keeps_its_value(raw: str) -> None:
    value = loads(raw.encode(), nesting=0)

    assert (value, type(value)) == (FINITE[raw], type(FINITE[raw]))
    assert loads(dumps(value), nesting=0) == value


def test_an_integer_that_nobody_could_read_is_not_written() -> None:
    for value in (10**MOST_DIGITS, {"a": [-(10**MOST_DIGITS)]}):
        with pytest.raises(NotJsonError):
            dumps(value)
    assert dumps(10**MOST_DIGITS - 1)


def test_digits_in_a_text_are_no_number() -> None:
    text = "9" * (2 * MOST_DIGITS)

    assert loads(dumps({"a": text}), nesting=1) == {"a": text}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), object(), "\ud800", b"\xff", {"a": {1: object()}}]
)
def test_what_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises(NotJsonError):
        dumps({"a": value})


def test_what_has_no_end_is_not_written() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotJsonError):
        dumps(loop)


def test_words_that_look_like_infinities_are_written() -> None:
    assert dumps(["NaN", "Infinity"]) == b'["NaN","Infinity"]'


@pytest.mark.parametrize(
    ("raw", "levels"),
    [
        ("", 0),
        ("1", 0),
        ("[]", 1),
        ("{}", 1),
        ("[[],[]]", 2),
        ('{"a":{},"b":[]}', 2),
        ("[[[]]]", 3),
        ("[[],[[]]]", 3),
        ('["[[[["]', 1),
        (r'["\"[[[["]', 1),
        (r'["\\",[]]', 2),
        ('["[', 1),
        ("[]" * 50, 1),
        ("[" * 200, 200),
    ],
)
def test_levels_are_counted_to_the_last(raw: str, levels: int) -> None:
    assert nested_within(raw.encode(), levels)
    assert levels == 0 or not nested_within(raw.encode(), levels - 1)
