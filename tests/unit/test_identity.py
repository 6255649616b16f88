"""Call ids."""

from __future__ import annotations

import re
import time
import uuid

import pytest

from toolspan.identity import new_call_id


def test_a_call_id_is_a_uuid_of_version_7() -> None:
    made = new_call_id()

    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made)
    assert (uuid.UUID(made).version, uuid.UUID(made).variant) == (7, uuid.RFC_4122)


def test_it_begins_with_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_call_id()).int >> 80

    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_sort_by_the_millisecond_in_which_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # Byte borders, and the largest that fits.
    moments = [1, 255, 256, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1]
    ids = []
    for moment in moments:
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment * 1_000_000)
        ids.append(new_call_id())

    assert sorted(ids) == ids
    assert [uuid.UUID(made).int >> 80 for made in ids] == moments


def test_no_two_ids_are_the_same() -> None:
    assert len({new_call_id() for _ in range(10_000)}) == 10_000
