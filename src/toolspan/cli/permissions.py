"""The command that prints who needs to be permitted what in Redis."""

from __future__ import annotations

import click

from toolspan.cli.output import example, json_option, print_json, reported
from toolspan.settings import Settings


@click.command(**example("toolspan acl > users.acl", "toolspan acl --prefix '{sg}' --json"))
@click.option("--prefix", help="What all keys start with; TOOLSPAN_PREFIX.")
@json_option
@reported
def acl(prefix: str | None, as_json: bool) -> None:
    """Print an ACL file with a Redis user for each role; put passwords in before you use it."""
    from toolspan.store.permissions import acl_file, users  # noqa: PLC0415

    prefix = Settings.load(prefix=prefix).prefix
    if as_json:
        print_json([user.as_json() for user in users(prefix)])
    else:
        click.echo(acl_file(prefix), nl=False)
