"""The server as it should not be, each time for real."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from toolspan.operate.doctor.server import server
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from tests.doctor.patient import Patient


async def test_a_server_as_it_should_be_has_no_problem(patient: Patient) -> None:
    await patient.call("CONFIG SET", "maxmemory", "1gb")
    found = await patient.findings()

    # No worker runs, and nothing is exported: that is all there is to say.
    assert {check for check, one in found.items() if one.level != "ok"} == {"workers", "exporter"}
    assert {one.fix for one in found.values() if one.level == "ok"} == {""}


@pytest.mark.parametrize(
    ("setting", "value", "check", "level", "message", "fix"),
    [
        (
            *("maxmemory-policy", "allkeys-lru", "eviction", "problem"),
            "a full server evicts keys (allkeys-lru): registrations and replies go, or the stream with all calls",
            "CONFIG SET maxmemory-policy noeviction",
        ),
        (
            *("maxmemory", "1", "memory", "problem"),
            "of 0 MiB are used",
            "CONFIG SET maxmemory 2",
        ),
        (
            *("maxmemory", "0", "memory", "warn"),
            "without a limit: a backlog may take all memory of the machine",
            "CONFIG SET maxmemory 2gb",
        ),
        (
            *("appendonly", "no", "persistence", "problem"),
            "there is no append-only file: when Redis restarts, everything is forgotten, waiting calls with it",
            "CONFIG SET appendonly yes, then CONFIG REWRITE",
        ),
        (
            *("appendfsync", "everysec", "persistence", "warn"),
            "with appendfsync everysec, a crash of Redis' machine forgets the last second: calls may be lost or run",
            "CONFIG SET appendfsync always",
        ),
        (
            *("appendfsync", "no", "persistence", "warn"),
            "forgets whatever the system had not written yet",
            "CONFIG SET appendfsync always",
        ),
        (
            *("timeout", "30", "timeout", "warn"),
            "the server closes connections that are idle for 30 s: whoever sends a call then gets an error",
            "CONFIG SET timeout 0",
        ),
        (
            *("client-output-buffer-limit", "normal 1048576 0 0", "buffers", "problem"),
            "the server drops a client that has more than 1048576 bytes to read: many replies are more",
            "CONFIG SET client-output-buffer-limit 'normal 0 0 0'",
        ),
    ],
)
async def test_a_setting_that_is_bad_for_us_is_found_with_what_to_change(
    patient: Patient, *, setting: str, value: str, check: str, level: str, message: str, fix: str
) -> None:
    await patient.call("CONFIG SET", setting, value)
    found = (await patient.findings())[check]

    assert found.level == level
    assert message in found.message
    assert found.fix.startswith(fix)


async def test_without_an_append_only_file_snapshots_are_said_to_save_what_they_save(patient: Patient) -> None:
    await patient.call("CONFIG SET", "appendonly", "no")
    await patient.call("CONFIG SET", "save", "3600 1")
    found = (await patient.findings())["persistence"]

    assert "everything since the last snapshot is forgotten" in found.message


async def test_memory_that_is_nearly_used_up_is_said_in_time(patient: Patient) -> None:
    used = int((await patient.call("INFO", "memory"))["used_memory"])
    await patient.call("CONFIG SET", "maxmemory", int(used / 0.82))
    found = (await patient.findings())["memory"]

    assert found.level == "warn"
    assert re.search(r"\d of \d MiB are used, (8|9)[0-9]%$", found.message)


async def test_a_replica_takes_no_writes(patient: Patient) -> None:
    with EmbeddedServer(tcp=True) as primary:
        await patient.call("REPLICAOF", "127.0.0.1", primary.port)
        found = (await patient.findings())["role"]

    assert (found.level, found.fix) == ("problem", "point TOOLSPAN_REDIS_URL at the primary")


class _Says:
    """Stands for servers that cannot be had here: an old one, a cluster, one whose disk is full, one that hides."""

    def __init__(self, **info: str) -> None:
        self._info = info

    async def info(self) -> dict[str, str]:
        return self._info

    async def config(self, *names: str) -> dict[str, str]:
        return dict.fromkeys(names, "0")


@pytest.mark.parametrize(
    ("info", "check", "level", "message"),
    [
        ({"redis_version": "6.2.14"}, "version", "problem", "Redis 6.2.14 is too old"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, "version", "problem", "Valkey 7.2.5 is too old"),
        ({"redis_version": "255.255.255"}, "version", "ok", "Redis 255.255.255"),
        ({"redis_version": "unstable"}, "version", "unknown", "the server does not say which version it is"),
        ({"cluster_enabled": "1"}, "cluster", "problem", "scripts are refused"),
        ({"aof_enabled": "1", "aof_last_write_status": "err"}, "persistence", "problem", "the last write to the"),
        ({"aof_enabled": "1", "rdb_last_bgsave_status": "err"}, "persistence", "problem", "the last snapshot failed"),
        ({"connected_slaves": "2"}, "role", "ok", "a failover may forget the last moments"),
        ({}, "eviction", "unknown", "the server does not say"),
        ({}, "memory", "unknown", "the server does not say"),
        ({}, "persistence", "unknown", "the server does not say"),
    ],
)
async def test_a_server_that_cannot_be_had_here_is_judged_by_what_it_says(
    info: dict[str, str], check: str, level: str, message: str
) -> None:
    found = await server(_Says(**info), settings_for("redis://x").keys)  # type: ignore[arg-type]

    [one] = [finding for finding in found if finding.check == check]
    assert one.level == level
    assert message in one.message


async def test_a_managed_server_that_gives_its_settings_away_to_nobody_is_no_problem(patient: Patient) -> None:
    await patient.call("CONFIG SET", "maxmemory", "1gb")
    settings = await patient.user("managed", "~*", "&*", "+@all", "-config", "-acl")
    found = await patient.findings(settings)

    assert {check for check, one in found.items() if one.level == "unknown"} == {
        "persistence", "clients", "permissions",
    }  # fmt: skip
    assert not [one for one in found.values() if one.level == "problem"]
    assert found["eviction"].level == found["memory"].level == "ok"


async def test_a_server_that_tells_nothing_is_no_crash(patient: Patient) -> None:
    settings = await patient.user("nobody", "-@all")
    found = await patient.findings(settings)

    unknown = {check for check, one in found.items() if one.level == "unknown"}
    assert unknown == {"server", "clock", "permissions", "keys", "fleet"}
    assert "NOPERM" in found["server"].message or "permission" in found["server"].message


async def test_a_wrong_password_is_a_problem_of_its_own(patient: Patient) -> None:
    await patient.user("someone", "~*", "+@all")
    url = patient.settings.redis_url.replace("redis://", "redis://someone:wrong@")
    found = await patient.findings(patient.settings.model_copy(update={"redis_url": url}))

    assert found["redis"].level == "problem"
    assert found["redis"].message.startswith("Redis refused: ")
    assert "server" not in found


async def test_no_server_is_one_problem(patient: Patient) -> None:
    url = "redis://127.0.0.1:1/0"
    found = await patient.findings(patient.settings.model_copy(update={"redis_url": url}))

    assert {check for check, one in found.items() if one.level == "problem"} == {"redis"}
    assert found.keys() == {"variables", "redis", "exporter"}
