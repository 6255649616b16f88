"""Records and names that nobody of us wrote: they stop no neighbour, and no worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from toolspan.store.keeper import Held, Keeper
from toolspan.store.steps import Burial, Quarantined, Start, Started

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection, StreamStore

UNREADABLE: Final = (
    *(b"not json", b"", b"1", b"null", b'"text"', b"{}", b"[1]", b"[[]]", b"[null]", b"\xff"),
    *(b'[{"attempt":1}]', b'[{"consumer":1,"attempt":1,"start":1}]', b'[{"consumer":"a","attempt":"1","start":1}]'),
    *(b'[{"consumer":"a","attempt":1e999,"start":1}]', b'[{"consumer":"a","attempt":1,"start":NaN}]', b"[" * 2_000),
    *(b'[{"consumer":"a","attempt":-1,"start":1}]', b'[{"consumer":"a","attempt":1,"start":9007199254740994}]'),
)
records = pytest.mark.parametrize("record", UNREADABLE, ids=lambda raw: repr(raw[:50]))


async def _spoil(stage: Stage, entry_id: str, record: bytes) -> None:
    await stage.call("HSET", stage.keys.attempts, entry_id, record)


@records
async def test_an_orphan_with_a_spoilt_record_is_taken_with_its_neighbours(
    stage: Stage, store: StreamStore, record: bytes
) -> None:
    first, spoilt, last = [await stage.held("gone", idle_ms=60_000) for _ in range(3)]
    await _spoil(stage, spoilt, record)
    claims = await store.claim("gone", lease_ms=30_000, count=10, suspects=1, max_attempts=4)

    assert [(claim.delivery.entry_id, claim.delivery.losses) for claim in claims.claimed] == [
        (first, 1), (spoilt, 1), (last, 1),
    ]  # fmt: skip
    assert [attempt.get("error") for attempt in await stage.attempts(spoilt)] == ["worker_lost", None]


@records
async def test_a_due_call_with_a_spoilt_record_is_taken_with_its_neighbours(
    stage: Stage, store: StreamStore, record: bytes
) -> None:
    ids = [await stage.parked(due_ms=due_ms) for due_ms in (1, 2, 3)]
    await _spoil(stage, ids[1], record)
    claims = await store.claim_due(count=10, suspects=1, max_attempts=4)

    assert [claim.delivery.entry_id for claim in claims.claimed] == ids


@records
async def test_a_spoilt_record_stops_no_step(
    stage: Stage, store: StreamStore, connection: Connection, record: bytes
) -> None:
    kept, begun, parked, buried = ids = [await stage.held() for _ in range(4)]
    keeper = Keeper(connection, stage.keys, me="me", clock=store.clock, ttl_ms=60_000, timeout=5)
    for entry_id in ids:
        await _spoil(stage, entry_id, record)

    assert [claim.delivery.entry_id for claim in await store.recover([])] == ids
    assert keeper.keep([Held(kept, 1, noted=False)], running={}).lost == []
    assert await store.start([Start(begun, 1, 2)]) == [Started.DONE]
    assert await store.park(parked, 1, count=1, delay_ms=60_000, reason="tool_error")
    assert (
        await store.quarantine(Burial(buried, 1, "malformed", "malformed", ["dlq.id", buried]))
    ).status == Quarantined.DONE
    assert [len(await stage.attempts(entry_id)) for entry_id in ids] == [1, 1, 1, 0]
    keeper.close()


async def test_what_can_be_read_of_a_record_is_kept(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", idle_ms=60_000)
    good = b'{"consumer":"caf\xe9","attempt":1,"start":1,"end":2,"error":"worker_lost"}'
    await _spoil(stage, entry_id, b"[" + good + b',{"attempt":2}]')
    await stage.hold(entry_id, "gone", attempt=2, idle_ms=60_000)
    claims = await store.claim("gone", lease_ms=30_000, count=10, suspects=1, max_attempts=4)

    assert [claim.delivery.losses for claim in claims.claimed] == [2]


async def test_an_error_that_is_no_text_is_left_out(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.note(entry_id, {"consumer": "a", "attempt": 1, "start": 1, "end": 2, "error": 7})
    await store.start([Start(entry_id, 1, 2)])

    assert "error" not in (await stage.attempts(entry_id))[0]


async def test_an_owner_of_any_name_loses_its_orphans(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(b"caf\xe9", idle_ms=60_000)

    [owner] = await store.owners()
    claims = await store.claim(owner, lease_ms=30_000, count=10, suspects=1, max_attempts=4)

    [claim] = claims.claimed
    assert (claim.delivery.entry_id, claim.delivery.owner) == (entry_id, "caf\ufffd")
    assert claim.delivery.previous is not None
    assert claim.delivery.previous.consumer == claim.delivery.owner
