"""A share of `make fuzz`: broken entries of every kind are read or refused, and nothing else."""

from __future__ import annotations

import pytest

from tests.fuzz.checks import LIMITS, check
from tests.fuzz.entries import Entries
from toolspan.codec import call_id_in


@pytest.mark.parametrize("seed", [1, 2])
def test_broken_entries_are_read_or_malformed_and_what_was_read_comes_back(seed: int) -> None:
    entries = Entries(seed, LIMITS)
    read = [check(entries.next()) for _ in range(1_000)]

    assert 0.2 < sum(read) / len(read) < 0.8


def test_the_same_seed_gives_the_same_entries() -> None:
    one, other = (Entries(3, LIMITS) for _ in range(2))

    assert [one.next() for _ in range(50)] == [other.next() for _ in range(50)]


def test_the_id_of_a_call_is_found_behind_an_unknown_field_that_is_called_payload() -> None:
    fields = [b"payload", b'{"id": "other"}', b"v", b"1", b"id", b"c1", b"tool", b"echo", b"args", b"{}"]

    assert call_id_in("1-1", fields) == "c1"
    assert call_id_in("1-1", fields[:2]) == "other"
    assert call_id_in("1-1", [*fields[:2], *fields[6:]]) is None
