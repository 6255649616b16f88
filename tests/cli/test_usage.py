"""What all commands have in common: how they help, and how they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from toolspan.cli.main import cli

if TYPE_CHECKING:
    from click.testing import Result

    from tests.cli.commands import Shell

SERVING = ("worker --tools toolspan.tools.builtin", "gateway --port 0", "monitor")
ASKING = (
    "call echo",
    "tools",
    "dlq ls",
    "dlq show 1-1",
    "dlq replay 1-1",
    "dlq replay 1-1 --wait",
    "dlq replay --all-matching --tool echo",
    "dlq discard 1-1 --why old",
    "dlq export",
    "dlq purge --older-than 30d --why old",
)
LOOKING = ("status", "consumers", "pending", "explain 1-1")
NAMES = (
    "worker",
    "gateway",
    "monitor",
    "call",
    "tools",
    "config",
    "wait-for",
    "demo",
    "status",
    "consumers",
    "pending",
    "explain",
)
LETTERS = ("dlq", "dlq ls", "dlq show", "dlq replay", "dlq discard", "dlq export", "dlq purge")


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
        "dlq replay --all-matching",
        "dlq replay 1-1 --all-matching --tool echo",
        "dlq replay 1-1 --tool echo",
        "dlq replay --tool echo",
        "dlq replay 1-1 --rate 0",
        "dlq replay 1-1 --rate nan",
        "dlq replay 1-1 --rate inf",
        "dlq replay 1-1 --timeout 5",
        "dlq replay 1-1 --wait --timeout nan",
        "dlq replay 1-1 --wait --dry-run",
        "dlq discard 1-1",
        "dlq discard --why old",
        "dlq discard --all-matching --why old",
        "dlq purge --why old",
        "dlq purge --older-than 30d",
        "dlq purge --older-than 30 --why old",
        "wait-for",
    ],
)
def test_what_is_typed_wrongly_is_refused(command: str) -> None:
    done = _parsed(command)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "\nError: " in done.stderr


async def test_a_process_helps_and_refuses_in_the_same_way(lonely: Shell) -> None:
    helped, refused = (await lonely.each("call --help", "call --nonsense")).values()

    assert (helped.code, helped.err) == (0, "")
    assert "toolspan call echo" in helped.out
    assert (refused.code, refused.out) == (2, "")
    assert "No such option" in refused.err


async def test_a_redis_that_is_not_there_is_said_in_one_sentence(lonely: Shell) -> None:
    for command, done in (await lonely.each(*SERVING, *ASKING, *LOOKING)).items():
        assert (done.code, done.out) == (3, ""), command
        assert "is it running, and is TOOLSPAN_REDIS_URL right?" in done.sentence, command
        assert "127.0.0.1:1" in done.sentence, command


async def test_a_bad_setting_is_said_in_one_sentence(lonely: Shell) -> None:
    commands = (*SERVING, "call echo", "tools", "dlq ls", "config", "worker --tools x --processes 2")
    for command, done in (await lonely.each(*commands, TOOLSPAN_LEASE_MS="abc")).items():
        assert (done.code, done.out) == (2, ""), command
        assert "TOOLSPAN_LEASE_MS" in done.sentence, command


@pytest.mark.parametrize("url", ["nonsense", "redis://127.0.0.1:port/0"])
async def test_a_url_that_cannot_be_read_is_a_bad_setting_too(lonely: Shell, url: str) -> None:
    for command, done in (await lonely.each("tools", "call echo", TOOLSPAN_REDIS_URL=url)).items():
        assert (done.code, done.out) == (2, ""), command
        assert "TOOLSPAN_REDIS_URL" in done.sentence, command


async def test_the_sentence_names_what_has_to_be_changed(lonely: Shell) -> None:
    # One bad variable of OpenTelemetry, one option that stands for a variable, and two variables at once.
    interval = await lonely.run("monitor", OTEL_METRIC_EXPORT_INTERVAL="soon")
    option = await lonely.run("worker", "--tools", "x", "--concurrency", "0", TOOLSPAN_CONCURRENCY="5")
    two = await lonely.run("tools", TOOLSPAN_LEASE_MS="1", TOOLSPAN_MAX_ATTEMPTS="0")

    assert (interval.code, option.code, two.code) == (2, 2, 2)
    assert "OTEL_METRIC_EXPORT_INTERVAL" in interval.sentence
    assert "TOOLSPAN_CONCURRENCY" in option.sentence
    assert "TOOLSPAN_LEASE_MS" in two.sentence
    assert "TOOLSPAN_MAX_ATTEMPTS" in two.sentence


async def test_a_dotenv_that_cannot_be_read_is_said_in_one_sentence(lonely: Shell) -> None:
    (lonely.folder / ".env").write_bytes(b"TOOLSPAN_STREAM=\xff\n")

    code, sentence = (await lonely.run("tools")).told()

    assert (code, ".env is not UTF-8" in sentence) == (2, True)


@pytest.mark.parametrize("command", ["dlq replay --all-matching", "dlq discard --all-matching --why old"])
def test_all_are_meant_only_if_it_is_said_which(command: str) -> None:
    assert "--all-matching needs a filter: --tool, --reason, --since or --fingerprint" in _parsed(command).stderr


def _parsed(command: str, *more: str) -> Result:
    """Let a command be parsed, in this process: what is refused there, or only helps, has not begun."""
    return CliRunner().invoke(cli, [*command.split(), *more], prog_name="toolspan")
