"""Every command with its options, from the command tree itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from tools.pages.markdown import heading, names, pages_of, table
from toolspan.cli.main import cli
from toolspan.cli.output import FAILED, NO_REDIS, WRONG_USAGE

INTRO = (
    f"Exit codes: 0 ok, {FAILED} the operation failed, {WRONG_USAGE} wrong usage, {NO_REDIS} Redis unreachable. Errors "
    "are one sentence on stderr that says what to do. Every command takes `--help`; settings are "
    "[`TOOLSPAN_*` variables](settings.md)."
)


def page() -> str:
    """Make the page."""
    parts = [heading("Command line", source="src/toolspan/cli/"), INTRO]
    for name, command, context in commands(cli, click.Context(cli, info_name="toolspan")):
        if command is not cli:
            parts += described(name, command, context)
    return pages_of(*parts)


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """The command and all below it, each with its whole name."""
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from commands(found, click.Context(found, info_name=name, parent=context))


def described(name: str, command: click.Command, context: click.Context) -> list[str]:
    """What `--help` says of a command."""
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    told = inspect.cleandoc(command.help or "").replace("\b\n", "")
    parts = [f"## {name}", told, f"```text\n{usage}\n```"]
    if isinstance(command, click.Group):
        parts.append(f"Commands: {names(command.list_commands(context))}.")
    taken = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in taken if (record := option.get_help_record(context))]
    options = [(f"`{option}`", " ".join(text.split())) for option, text in records if "--help" not in option]
    if options:
        parts.append(table(("option", "meaning"), options))
    example = (command.epilog or "").replace("\b\n", "").removeprefix("Example:\n")
    return [*parts, f"```sh\n{inspect.cleandoc(example)}\n```"] if example else parts
