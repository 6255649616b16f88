"""The command groups, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Final

import click

from toolspan.cli.output import example

_COMMANDS: Final = {
    "acl": ("toolspan.cli.permissions", "acl"),
    "call": ("toolspan.cli.calls", "call"),
    "config": ("toolspan.cli.environment", "config"),
    "consumers": ("toolspan.cli.inspection", "consumers"),
    "demo": ("toolspan.cli.demonstration", "demo"),
    "dlq": ("toolspan.cli.dead_letters", "dlq"),
    "doctor": ("toolspan.cli.diagnosis", "doctor"),
    "drain": ("toolspan.cli.steering", "drain"),
    "explain": ("toolspan.cli.inspection", "explain"),
    "gateway": ("toolspan.cli.services", "gateway"),
    "monitor": ("toolspan.cli.services", "monitor"),
    "pause": ("toolspan.cli.steering", "pause"),
    "pending": ("toolspan.cli.inspection", "pending"),
    "resume": ("toolspan.cli.steering", "resume"),
    "status": ("toolspan.cli.inspection", "status"),
    "tools": ("toolspan.cli.calls", "tools"),
    "wait-for": ("toolspan.cli.environment", "wait_for"),
    "worker": ("toolspan.cli.services", "worker"),
}


class _Lazy(click.Group):
    """Imports a command only when it is asked for: `--help` does not wait for the SDK."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return [*super().list_commands(ctx), *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give the command of this name."""
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    **example("toolspan demo", "toolspan worker --help"),
)
@click.version_option(version("toolspan"), message="%(version)s")
def cli() -> None:
    """Tool execution on Redis Streams, with telemetry as the product.

    Settings are TOOLSPAN_* variables, or a .env file; `toolspan config` lists them.
    """
