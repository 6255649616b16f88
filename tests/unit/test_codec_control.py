"""What operators ask for, as it lies in the control hash."""

from __future__ import annotations

import pytest

from toolspan.codec import decode_control, decode_order
from toolspan.model import Control, Order

ASKED = b'{"who": "ada", "why": "it breaks", "at": 1795000000000}'
ORDER = Order("ada", "it breaks", 1_795_000_000_000)


def test_pauses_and_drains_are_told_apart_by_what_they_are_about() -> None:
    fields = [b"pause:echo", ASKED, b"drain:w-1-abcd", b"{}", b"pause:", b"?", b"other:echo", ASKED, b"pause", b"1"]

    assert decode_control(fields) == Control({"echo": ORDER, "": Order("", "", 0)}, {"w-1-abcd": Order("", "", 0)})
    assert decode_control([]) == Control({}, {})


def test_a_name_of_any_bytes_is_told() -> None:
    assert decode_control([b"pause:\xff", b"{}"]).paused.keys() == {"\ufffd"}


@pytest.mark.parametrize(
    "raw", [b"", b"?", b"[]", b"7", b"null", b"\xff", b"[" * 100_000, b'{"who": 1, "why": [], "at": "x"}']
)
def test_what_cannot_be_read_is_an_order_of_nobody(raw: bytes) -> None:
    assert decode_order(raw) == Order("", "", 0)


@pytest.mark.parametrize(
    ("at", "read"),
    [
        ("0", 0),
        ("1", 1),
        ("7.9", 7),
        ("-1", 0),
        ("9007199254740991", 2**53 - 1),
        ("9007199254740992", 0),
        ("NaN", 0),
        ("1e999", 0),
    ],
)
def test_a_time_is_milliseconds_that_a_clock_can_tell(at: str, read: int) -> None:
    assert decode_order(f'{{"at": {at}}}'.encode()) == Order("", "", read)
