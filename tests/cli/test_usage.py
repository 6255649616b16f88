"""What all commands have in common: how they help, and how they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.cli.commands import NOBODY
from toolspan.cli.main import cli

if TYPE_CHECKING:
    from click.testing import Result

    from tests.cli.commands import Shell

SERVING = ("worker --tools toolspan.tools.builtin", "gateway --port 0", "monitor")
ASKING = ("call echo", "tools", "dlq ls", "dlq show 1-1", "dlq replay 1-1", "dlq discard 1-1 --why old")
NAMES = ("worker", "gateway", "monitor", "call", "tools", "config", "wait-for", "demo")
LETTERS = ("dlq", "dlq ls", "dlq show", "dlq replay", "dlq discard")


@pytest.mark.parametrize("command", ["", *NAMES, *LETTERS])
def test_help_shows_how_a_command_is_typed(command: str) -> None:
    done = _parsed(command, "--help")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: toolspan {command}".rstrip())
    assert f"\n  Example:\n    toolspan {command}".rstrip() in done.stdout


def test_help_tells_of_every_command() -> None:
    told = _parsed("--help").stdout

    assert [name for name in (*NAMES, "dlq") if f"\n  {name} " not in told] == []


@pytest.mark.parametrize(
    "command",
    [
        "nonsense",
        *(f"{command} --nonsense" for command in (*NAMES, *LETTERS)),
        "tools more",
        "call",
        "call echo {} more",
        "call echo --timeout 0",
        "worker",
        "worker --tools x --processes 0",
        "gateway --port 65536",
        "gateway --log-level loud",
        "dlq nonsense",
        "dlq ls --reason nonsense",
        "dlq ls --since yesterday",
        "dlq ls --group-by tool",
        "dlq replay",
        "dlq discard 1-1",
        "wait-for",
    ],
)
def test_what_is_typed_wrongly_is_refused(command: str) -> None:
    done = _parsed(command)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "\nError: " in done.stderr


async def test_a_process_helps_and_refuses_in_the_same_way(lonely: Shell) -> None:
    helped = await lonely.run("call", "--help")
    refused = await lonely.run("call", "--nonsense")

    assert (helped.code, helped.err) == (0, "")
    assert "toolspan call echo" in helped.out
    assert (refused.code, refused.out) == (2, "")
    assert "No such option" in refused.err


@pytest.mark.parametrize("command", [*SERVING, *ASKING])
async def test_a_redis_that_is_not_there_is_said_in_one_sentence(lonely: Shell, command: str) -> None:
    done = await lonely.run(*command.split())

    assert (done.code, done.out) == (3, "")
    assert "is it running, and is TOOLSPAN_REDIS_URL right?" in done.sentence
    assert "127.0.0.1:1" in done.sentence


@pytest.mark.parametrize(
    "command",
    [
        "worker --tools x",
        "worker --tools x --processes 2",
        "gateway",
        "monitor",
        "call echo",
        "tools",
        "dlq ls",
        "config",
    ],
)
async def test_a_bad_setting_is_said_in_one_sentence(lonely: Shell, command: str) -> None:
    done = await lonely.run(*command.split(), TOOLSPAN_LEASE_MS="abc")

    assert (done.code, done.out) == (2, "")
    assert "TOOLSPAN_LEASE_MS" in done.sentence


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("tools", "TOOLSPAN_REDIS_URL", "nonsense"),
        ("tools", "TOOLSPAN_REDIS_URL", "redis://127.0.0.1:port/0"),
        ("tools", "TOOLSPAN_REDIS_URL", "redis://[half/0"),
        ("call echo", "TOOLSPAN_PREFIX", "a b"),
        ("monitor", "OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("worker --tools toolspan.tools.builtin --concurrency 0", "TOOLSPAN_CONCURRENCY", "5"),
    ],
)
async def test_the_sentence_names_the_variable(lonely: Shell, command: str, name: str, value: str) -> None:
    done = await lonely.run(*command.split(), **{name: value})

    assert (done.code, done.out) == (2, "")
    assert name in done.sentence


async def test_all_that_is_wrong_with_the_settings_is_said_at_once(lonely: Shell) -> None:
    done = await lonely.run("tools", TOOLSPAN_REDIS_URL=NOBODY, TOOLSPAN_LEASE_MS="1", TOOLSPAN_MAX_ATTEMPTS="0")

    assert done.code == 2
    assert "TOOLSPAN_LEASE_MS" in done.sentence
    assert "TOOLSPAN_MAX_ATTEMPTS" in done.sentence


async def test_a_dotenv_that_cannot_be_read_is_said_in_one_sentence(lonely: Shell) -> None:
    (lonely.folder / ".env").write_bytes(b"TOOLSPAN_STREAM=\xff\n")

    code, sentence = (await lonely.run("tools")).told()

    assert (code, ".env is not UTF-8" in sentence) == (2, True)


def _parsed(command: str, *more: str) -> Result:
    """Let a command be parsed, in this process: what is refused there, or only helps, has not begun."""
    return CliRunner().invoke(cli, [*command.split(), *more], prog_name="toolspan")
