"""The command that checks everything: doctor."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from toolspan.cli.inspection import ask
from toolspan.cli.output import FAILED, NO_REDIS, example, json_option, print_json, reported, say
from toolspan.store.permissions import ROLES

if TYPE_CHECKING:
    from toolspan.operate.doctor import Finding
    from toolspan.settings import Settings
    from toolspan.store import Connection

_INDENT: Final = " " * 9


@click.command(**example("toolspan doctor", "toolspan doctor --role worker --json"))
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(tuple(ROLES)),
    help="Which role the user of TOOLSPAN_REDIS_URL has to be able to play; repeatable. All are told of if unset.",
)
@json_option
@reported
def doctor(roles: tuple[str, ...], as_json: bool) -> None:
    """Check Redis, the group, permissions, the clock, variables and the exporter; say what to change."""
    from toolspan.operate.doctor import examine  # noqa: PLC0415

    # What an exporter has to say stands in its finding.
    library = logging.getLogger("opentelemetry")
    library.addHandler(logging.NullHandler())
    library.propagate = False

    async def main(connection: Connection, settings: Settings) -> list[Finding]:
        return await examine(connection, settings, roles=roles)

    found = ask(main)
    problems = [one for one in found if one.level == "problem"]
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            say(f"{one.level:<9}{one.check}: {one.message}")
            if one.fix:
                say(f"{_INDENT}change: {one.fix}")
        warnings = sum(one.level == "warn" for one in found)
        click.echo(f"{len(problems)} problems, {warnings} warnings, {len(found)} findings")
    if problems:
        sys.exit(NO_REDIS if any(one.check == "redis" for one in problems) else FAILED)
