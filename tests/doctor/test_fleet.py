"""The stream, its group and its workers as they should not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.doctor.patient import Patient


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        *(("calls", "stream"), ("dead_letters", "stream"), ("workers", "zset"), ("parked", "zset")),
        *(("control", "hash"), ("attempts", "hash"), ("streams", "set"), ("audit", "stream"), ("events", "stream")),
    ],
)
async def test_what_is_not_ours_under_a_key_of_ours_is_named(patient: Patient, key: str, kind: str) -> None:
    name = getattr(patient.keys, key)
    await patient.call("SET", name, "x")
    found = (await patient.findings())["keys"]

    assert (found.level, found.message) == ("problem", f"{name} holds a string and should be a {kind}")
    assert found.fix == f"RENAME {name} {name}:not-ours"


async def test_calls_without_a_group_or_a_worker_wait(patient: Patient) -> None:
    await patient.call("XADD", patient.keys.calls, "*", "tool", "echo")
    found = await patient.findings()

    assert (found["group"].level, found["workers"].level) == ("warn", "problem")
    assert found["workers"].message == "no live worker, and 1 calls wait"


async def test_workers_that_do_not_keep_up_are_told_of(patient: Patient) -> None:
    await patient.group()
    await patient.registers("w")
    await patient.call("XADD", patient.keys.calls, "1-0", "tool", "echo")
    found = (await patient.findings())["lag"]

    assert (found.level, found.message.startswith("1 calls wait to be read, the oldest for ")) == ("warn", True)


@pytest.mark.parametrize(
    ("one", "other", "check", "level", "message"),
    [
        (
            *({"lease": 1_000}, {"lease": 2_000}, "leases", "problem"),
            "live workers run with different leases, 1000 and 2000 ms",
        ),
        (
            *({"lease": 2_000}, {"lease": 2_000}, "leases", "problem"),
            "live workers run with a lease of 2000 ms, and we are set to 1000",
        ),
        ({"version": "1"}, {"version": "2"}, "versions", "warn", "live workers are of different versions: 1, 2"),
        ({"protocol": 1}, {"protocol": 2}, "versions", "warn", "live workers read different versions of the protocol"),
        ({}, {}, "leases", "ok", "live workers have one lease and one version"),
    ],
)
async def test_workers_that_do_not_fit_together_are_told_of(
    patient: Patient, *, one: dict[str, object], other: dict[str, object], check: str, level: str, message: str
) -> None:
    await patient.group()
    await patient.registers("one", **one)
    await patient.registers("other", **other)
    found = (await patient.findings())[check]

    assert found.level == level
    assert found.message.startswith(message)


@pytest.mark.parametrize(("live", "level"), [(True, "warn"), (False, "problem")])
async def test_calls_of_the_dead_are_told_of(patient: Patient, *, live: bool, level: str) -> None:
    await patient.group()
    await patient.held("gone-1-aaaa", 3)
    if live:
        await patient.registers("w")
    found = (await patient.findings())["orphans"]

    assert found.level == level
    assert found.message.startswith("3 calls are held by 1 consumers that are gone, gone-1-aaaa for one")


@pytest.mark.parametrize(("live", "level"), [(True, "warn"), (False, "problem")])
async def test_parked_calls_without_a_due_time_are_told_of(patient: Patient, *, live: bool, level: str) -> None:
    await patient.group()
    await patient.held("~parked", 2)
    if live:
        await patient.registers("w")
    found = (await patient.findings())["parked"]

    assert (found.level, found.message.startswith("2 parked calls have no due time")) == (level, True)


async def test_dead_letters_and_paused_tools_are_told_of(patient: Patient) -> None:
    await patient.call("XADD", patient.keys.dead_letters, "*", "dlq.id", "1-0")
    await patient.call("HSET", patient.keys.control, "pause:echo", "{}")
    found = await patient.findings()

    assert (found["dead letters"].level, found["paused"].level) == ("warn", "warn")
    assert found["dead letters"].message == "1 dead letters wait for somebody to decide"
    assert found["paused"].fix == "toolspan resume echo"


async def test_a_stream_and_dead_letters_that_grow_for_ever_are_told_of(patient: Patient) -> None:
    for key, count in ((patient.keys.calls, 100_001), (patient.keys.dead_letters, 10_001)):
        script = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'a', 'b') end"
        await patient.call("EVAL", script, 1, key, count)
    found = await patient.findings()
    kept = await patient.findings(patient.settings.model_copy(update={"dlq_retention_days": 30}))

    assert found["stream"].message == "the stream has 100001 entries, and each takes memory until it is settled"
    assert found["dead letters"].message == "10001 dead letters lie there, and are kept for ever"
    assert kept["dead letters"].message == "10001 dead letters wait for somebody to decide"
