"""Settings: where they come from, what they may be, and what is said of those that cannot be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from toolspan import Settings, SettingsError
from toolspan.keys import Keys
from toolspan.settings import OtlpSettings
from toolspan.store import Connection

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An empty one, in a folder without a `.env`."""
    for name in list(os.environ):
        if name.startswith(("TOOLSPAN_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_everything_has_the_default_of_its_promise() -> None:
    s = Settings.load()

    assert (s.redis_url, s.prefix, s.stream) == ("redis://127.0.0.1:6379/0", "sg", "tools")
    assert (s.concurrency, s.lease_ms, s.max_attempts, s.drain_seconds) == (100, 60_000, 4, 30)
    assert (s.reap_after_ms, s.max_nesting, s.reply_maxlen) == (600_000, 64, 100_000)
    assert (s.max_args_bytes, s.max_reply_bytes) == (256 * 1024, 256 * 1024)
    assert s.dlq_retention_days is None


def test_a_variable_wins_over_dotenv_and_an_override_over_both(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOOLSPAN_PREFIX=file\nTOOLSPAN_STREAM=file\nTOOLSPAN_CONCURRENCY=7\nOTHER=1\n")
    environment.setenv("TOOLSPAN_STREAM", "variable")
    environment.setenv("TOOLSPAN_CONCURRENCY", "8")
    s = Settings.load(concurrency=9)

    assert (s.prefix, s.stream, s.concurrency) == ("file", "variable", 9)


def test_an_override_of_none_is_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TOOLSPAN_STREAM", "variable")

    assert Settings.load(stream=None).stream == "variable"


BOUNDS = [
    ("concurrency", 1, 10_000),
    ("lease_ms", 200, 3_600_000),
    ("max_attempts", 1, 20),
    ("drain_seconds", 0, 3_600),
    ("wait_replicas", 0, 100),
    ("reap_after_ms", 400, 10**9),
    ("max_args_bytes", 2, 16_777_216),
    ("max_reply_bytes", 64, 16_777_216),
    ("max_nesting", 1, 150),
    ("reply_maxlen", 100, 10**9),
    ("reply_ttl_seconds", 1, 604_800),
    ("tool_timeout_seconds", 0.001, 86_400),
    ("dlq_retention_days", 1, 36_500),
    ("idempotency_ttl_seconds", 1, 2_592_000),
    ("backlog_limit", 1, 1_000_000_000),
    ("remote_sampled_ratio", 0, 1),
]


@pytest.mark.parametrize(("name", "least", "most"), BOUNDS)
def test_a_number_may_be_as_small_and_as_large_as_its_bounds(name: str, least: float, most: float) -> None:
    # A worker is not reaped before its lease is over twice.
    assert getattr(Settings.load(**{"lease_ms": 200, name: least}), name) == least
    assert getattr(Settings.load(**{"reap_after_ms": 10**9, name: most}), name) == most


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, "0" if name == "tool_timeout_seconds" else str(least - 1)) for name, least, _ in BOUNDS],
        *[(name, str(most + 1)) for name, _, most in BOUNDS if most < 10**9],
        *[(name, wrong) for name, _, _ in BOUNDS for wrong in ("many", "", "1e400", "nan")],
        ("lease_ms", "1000.5"),
        ("prefix", ""),
        ("prefix", "a:b"),
        ("prefix", "a b"),
        ("prefix", "é"),
        ("prefix", "x" * 65),
        ("stream", ""),
        ("stream", "-tools"),
        ("stream", "a:b"),
        ("stream", "tools\n"),
        ("stream", "x" * 129),
        ("link_only", "perhaps"),
    ],
)
def test_what_is_out_of_bounds_is_refused_under_the_name_of_its_variable(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variable = f"TOOLSPAN_{name.upper()}"
    environment.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: ") as raised:
        Settings.load()

    assert "\n" not in str(raised.value)
    # A sentence of ours, without the vocabulary of the library that checked it.
    assert "Value error" not in str(raised.value)


def test_every_setting_has_a_meaning_and_every_number_a_bound() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        numeric = isinstance(field.default, int | float) and not isinstance(field.default, bool)
        assert not numeric or name in {bound for bound, _, _ in BOUNDS}, name


def test_all_that_is_wrong_is_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TOOLSPAN_LEASE_MS", "1")
    environment.setenv("TOOLSPAN_STREAM", "a:b")
    with pytest.raises(SettingsError, match=r"TOOLSPAN_STREAM: .*; TOOLSPAN_LEASE_MS: "):
        Settings.load()


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://h:1/2",
        "unix:///run/redis.sock?db=1",
        "redis://u:p@h:7/0",
        "redis+sentinel://a:1,b/s/0",
        "rediss+sentinel://u:p@a/s",
    ],
)
def test_a_url_of_a_known_scheme_is_taken(url: str) -> None:
    assert Settings.load(redis_url=url).redis_url == url


@pytest.mark.parametrize("url", ["http://h", "h:6379", "", "redis", "redis:h", "memcached://:secret@h"])
def test_a_url_of_another_scheme_is_refused_with_those_that_are_known(url: str) -> None:
    with pytest.raises(SettingsError, match=r"TOOLSPAN_REDIS_URL: must start with one of redis://, ") as raised:
        Settings.load(redis_url=url)

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret/1@h:6379/0",
        "redis://u:secret#1@h:6379/0",
        "redis://u:secret?1@h:6379/0",
        "redis://u:secret\u2100@h/0",
        "redis://h/0?socket_timeout=secret",
    ],
)
def test_a_url_that_cannot_be_read_does_not_give_its_password_away(url: str) -> None:
    with pytest.raises(SettingsError, match="TOOLSPAN_REDIS_URL") as raised:
        Connection.to(url)

    assert "secret" not in str(raised.value)


def test_a_dotenv_that_is_not_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"TOOLSPAN_PREFIX=\xff\n")
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8"):
        Settings.load()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().lease_ms = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://user:se@cr@et@h/0", "redis://user:***@h/0"),
        ("redis://user:a/b:c@h/0", "redis://user:***@h/0"),
        ("unix:///run/s.sock?username=u&password=secret&db=1", "unix:///run/s.sock?username=u&password=***&db=1"),
        ("redis://h/0?password=secret#", "redis://h/0?password=***"),
    ],
)
def test_passwords_are_hidden_where_settings_are_shown(url: str, shown: str) -> None:
    lines = {line.variable: line.value for line in Settings.load(redis_url=url).described()}

    assert lines["TOOLSPAN_REDIS_URL"] == shown


def test_each_setting_is_described_with_where_it_comes_from(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOOLSPAN_PREFIX=file\n")
    environment.setenv("TOOLSPAN_LEASE_MS", "5000")
    lines = {line.variable: line for line in Settings.load().described()}

    assert len(lines) == len(Settings.model_fields)
    assert all(line.meaning for line in lines.values())
    assert lines["TOOLSPAN_LEASE_MS"][1:3] == ("5000", "environment")
    assert lines["TOOLSPAN_PREFIX"][1:3] == ("file", ".env")
    assert lines["TOOLSPAN_CONCURRENCY"][1:3] == ("100", "default")


def test_the_keys_are_those_of_prefix_and_stream() -> None:
    assert Settings.load(prefix="{p}", stream="batch").keys == Keys("{p}", "batch")


def test_without_an_endpoint_nothing_is_exported() -> None:
    otlp = OtlpSettings()

    assert not any(otlp.exports(signal) for signal in ("traces", "metrics", "logs"))
    assert otlp.protocol("traces") == "http/protobuf"
    assert otlp.metric_interval_ms == 15_000


@pytest.mark.parametrize(
    ("variables", "exported"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, {"traces", "metrics", "logs"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_LOGS_EXPORTER": "none"}, {"traces", "metrics"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, set()),
    ],
)
def test_a_signal_goes_where_the_standard_variables_say(
    environment: pytest.MonkeyPatch, variables: dict[str, str], exported: set[str]
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    otlp = OtlpSettings()

    assert {s for s in ("traces", "metrics", "logs") if otlp.exports(s)} == exported


def test_one_signal_may_travel_in_another_way(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    environment.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf")
    otlp = OtlpSettings()

    assert (otlp.protocol("traces"), otlp.protocol("logs")) == ("grpc", "http/protobuf")


@pytest.mark.parametrize("interval", ["0", "-1", "soon", "1.5"])
def test_an_interval_that_is_none_is_refused(environment: pytest.MonkeyPatch, interval: str) -> None:
    environment.setenv("OTEL_METRIC_EXPORT_INTERVAL", interval)
    with pytest.raises(SettingsError, match=r"^OTEL_METRIC_EXPORT_INTERVAL: .*whole number of milliseconds"):
        OtlpSettings()


def test_a_worker_is_dead_no_sooner_than_its_lease_is_over_twice() -> None:
    assert Settings(lease_ms=30_000, reap_after_ms=60_000).reap_after_ms == 60_000
    with pytest.raises(
        SettingsError, match=r"^TOOLSPAN_REAP_AFTER_MS, 59999, is less than twice TOOLSPAN_LEASE_MS, 30000"
    ):
        Settings.load(lease_ms=30_000, reap_after_ms=59_999)
