"""doctor: what it says, and what it exits with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.commands import Shell
from tests.conftest import settings_for
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path


async def test_findings_are_said_with_what_to_change(shell: Shell) -> None:
    said = await shell.run("doctor", TOOLSPAN_CONCURENCY="5")
    told = await shell.run("doctor", "--json", "--role", "gateway", TOOLSPAN_CONCURENCY="5")

    # The server of the tests keeps nothing on disk.
    assert (said.code, said.err, told.code, told.err) == (1, "", 1, "")
    assert "problem  persistence: there is no append-only file: when Redis restarts, everything is" in said.out
    assert "\n         change: CONFIG SET appendonly yes, then CONFIG REWRITE\n" in said.out
    assert "warn     variables: nothing reads TOOLSPAN_CONCURENCY, which is set in the environment\n" in said.out
    assert "         change: did you mean TOOLSPAN_CONCURRENCY?\n" in said.out
    assert said.out.splitlines()[-1].startswith("1 problems, ")
    assert {"check", "level", "message", "fix"} == set(told.json[0])
    assert [one["level"] for one in told.json if one["check"].startswith("permissions")] == ["ok"]


async def test_a_plane_without_problems_is_no_failure(tmp_path: Path) -> None:
    with EmbeddedServer(aof=True) as server:
        done = await Shell.of(tmp_path, settings_for(server.url)).run("doctor")

    assert (done.code, done.err) == (0, "")
    assert "0 problems, " in done.out


async def test_without_redis_the_rest_is_told_all_the_same(lonely: Shell) -> None:
    done = await lonely.run("doctor", "--json", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")

    assert (done.code, done.err) == (3, "")
    assert [one["check"] for one in done.json if one["level"] == "problem"] == [
        "redis", "exporter of traces", "exporter of metrics", "exporter of logs",
    ]  # fmt: skip
