"""config: every setting, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import Shell
from toolspan.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"TOOLSPAN_{name.upper()}" for name in Settings.model_fields]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Where nothing is set."""
    return Shell(tmp_path, {})


async def test_every_setting_is_listed_with_its_meaning(shell: Shell) -> None:
    told = await shell.run("config", "--json")

    assert (told.code, told.err) == (0, "")
    assert [setting["variable"] for setting in told.json] == NAMES
    assert {setting["source"] for setting in told.json} == {"default"}
    assert all(setting["meaning"] for setting in told.json)


async def test_it_is_said_where_a_setting_comes_from(shell: Shell) -> None:
    (shell.folder / ".env").write_text("TOOLSPAN_STREAM=beside\nTOOLSPAN_PREFIX=one\nNOT_OURS=x\n")
    told = await shell.run("config", "--json", TOOLSPAN_PREFIX="two", toolspan_lease_ms="5000")

    settings = {setting["variable"]: (setting["value"], setting["source"]) for setting in told.json}
    assert {name: said for name, said in settings.items() if said[1] != "default"} == {
        "TOOLSPAN_STREAM": ("beside", ".env"),
        "TOOLSPAN_PREFIX": ("two", "environment"),
        "TOOLSPAN_LEASE_MS": ("5000", "environment"),
    }


async def test_what_sets_nothing_is_told_with_what_may_be_meant(shell: Shell) -> None:
    (shell.folder / ".env").write_text("TOOLSPAN_STREEM=beside\nNOT_OURS=x\n")
    told = await shell.run("config", "--json", TOOLSPAN_REDIS="redis://nobody", TOOLSPAN_XYZZY="1")

    assert told.code == 0
    assert told.err.splitlines() == [
        "toolspan: TOOLSPAN_REDIS is no setting, and does nothing; is TOOLSPAN_REDIS_URL meant?",
        "toolspan: TOOLSPAN_STREEM is no setting, and does nothing; is TOOLSPAN_STREAM meant?",
        "toolspan: TOOLSPAN_XYZZY is no setting, and does nothing",
    ]


async def test_what_a_setting_was_set_to_is_said_but_no_password(shell: Shell) -> None:
    wrong = await shell.run("config", TOOLSPAN_CONCURRENCY="many")
    secret = await shell.run("config", TOOLSPAN_REDIS_URL="reddis://ada:s3cret@127.0.0.1")

    assert (wrong.code, secret.code) == (2, 2)
    assert wrong.sentence.startswith("TOOLSPAN_CONCURRENCY: ")
    assert wrong.sentence.endswith(", not 'many'")
    assert secret.sentence.endswith(", not 'reddis://ada:***@127.0.0.1'")


@pytest.mark.parametrize("command", ["config", "config --json"])
async def test_no_password_is_shown(shell: Shell, command: str) -> None:
    url = "redis://ada:s3cret@127.0.0.1:6379/0?password=s3cret"
    told = await shell.run(*command.split(), TOOLSPAN_REDIS_URL=url)

    assert told.code == 0
    assert "s3cret" not in told.out + told.err
    assert "redis://ada:***@127.0.0.1:6379/0?password=***" in told.out


async def test_a_pipe_gets_every_name_whole(shell: Shell) -> None:
    listed = await shell.run("config", COLUMNS="80")

    lines = listed.out.splitlines()
    assert (listed.code, listed.err) == (0, "")
    assert [name for name in NAMES if not any(line.split()[:1] == [name] for line in lines)] == []
