"""Variables, the clock and the exporter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.telemetry.collector import collecting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.doctor.patient import Patient
    from toolspan.operate.doctor import Finding


async def test_a_variable_that_was_mistyped_is_found_wherever_it_is_set(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TOOLSPAN_LEASE=5\nOTHER=1\nTOOLSPAN_STREAM=tools\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLSPAN_CONCURENCY", "5")
    monkeypatch.setenv("toolspan_prefix", "sg")
    monkeypatch.setenv("TOOLSPAN_XYZZY", "1")
    found = await _all(patient, "variables")

    assert {(one.level, one.message, one.fix) for one in found} == {
        (
            "warn",
            "nothing reads TOOLSPAN_CONCURENCY, which is set in the environment",
            "did you mean TOOLSPAN_CONCURRENCY?",
        ),
        (
            "warn",
            "nothing reads TOOLSPAN_XYZZY, which is set in the environment",
            "toolspan config lists those that are read",
        ),
        ("warn", "nothing reads TOOLSPAN_LEASE, which is set in .env", "did you mean TOOLSPAN_LEASE_MS?"),
    }


async def _all(patient: Patient, check: str) -> list[Finding]:
    from toolspan.operate.doctor import examine  # noqa: PLC0415
    from toolspan.store import Connection  # noqa: PLC0415

    connection = Connection.to(patient.settings.redis_url)
    try:
        return [one for one in await examine(connection, patient.settings) if one.check == check]
    finally:
        await connection.aclose()


@pytest.mark.parametrize(
    ("ahead_ms", "level", "message"),
    [
        (0, "ok", "our clock and Redis' agree to within a second"),
        (5_000, "warn", "our clock is 5.0 s ahead of Redis'"),
        (-5_000, "warn", "our clock is 5.0 s behind Redis'"),
        (60_000, "problem", "our clock is 60.0 s ahead of Redis'"),
    ],
)
async def test_a_clock_that_is_wrong_is_told_of(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, *, ahead_ms: int, level: str, message: str
) -> None:
    right_ns = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: right_ns() + ahead_ms * 1_000_000)
    found = (await patient.findings())["clock"]

    assert (found.level, found.message.startswith(message)) == (level, True)


async def test_a_collector_is_sent_an_empty_export_of_each_signal(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        found = await patient.findings()
        asked = collector.asked.is_set()

    assert found["exporter of traces"].level == found["exporter of logs"].level == "ok"
    assert "exporter of metrics" not in found
    assert asked


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_collector_that_is_not_there_is_a_problem(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    found = (await patient.findings())["exporter of traces"]

    assert found.level == "problem"
    assert found.message.startswith("an empty export of traces failed: ")
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in found.fix


async def test_without_an_endpoint_nothing_is_exported_and_that_is_said(patient: Patient) -> None:
    found = (await patient.findings())["exporter"]

    assert (found.level, found.message) == ("warn", "no telemetry is exported")
