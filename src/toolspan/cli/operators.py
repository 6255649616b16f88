"""What the commands for dead letters share: which letters are meant, who is asking, and the way to Redis."""

from __future__ import annotations

import getpass
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import click

from toolspan.cli.durations import Duration
from toolspan.cli.output import FAILED, complain, fail
from toolspan.cli.redacting import redactor
from toolspan.model import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from toolspan.operate.dead_letters import Filter
    from toolspan.operate.letter_finder import LetterFinder
    from toolspan.settings import Settings
    from toolspan.store import Connection, DeadLetterStore
    from toolspan.telemetry.probe import Probe

T = TypeVar("T")
Command = TypeVar("Command", bound="Callable[..., Any]")

_NAMED: Final = 10


_FILTERS: Final = (
    click.option("--tool", help="Only calls of this tool."),
    click.option("--reason", type=click.Choice(get_args(DeadLetterReason)), help="Only of this reason."),
    click.option("--since", type=Duration(), metavar="DURATION", help="Only the newest: 30s, 15m, 2h, 7d."),
    click.option("--fingerprint", help="Only of this cause; `dlq ls --group-by fingerprint` lists them."),
)


def filters(command: Command) -> Command:
    """Give *command* the options that `chosen` takes."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def chosen(*, tool: str | None, reason: str | None, since: int | None, fingerprint: str | None) -> Filter:
    """Make a filter of what was typed; *since* is how many seconds ago."""
    from toolspan.operate.dead_letters import Filter  # noqa: PLC0415

    return Filter(tool, reason, None, fingerprint, newer_than_seconds=since)


ids_argument = click.argument("letter_ids", metavar="[ID...]", nargs=-1)
all_matching_option = click.option(
    "--all-matching", is_flag=True, help="All that the filters take, instead of IDs; at least one filter."
)


def refuse_unclear(letter_ids: Sequence[str], wanted: Filter, *, all_matching: bool) -> None:
    """Refuse what does not say plainly which dead letters are meant.

    Raises:
        click.UsageError: if there are both ids and filters, or neither, or filters without `--all-matching`.
    """
    from toolspan.operate.dead_letters import Filter  # noqa: PLC0415

    filtered = wanted != Filter()
    if all_matching and letter_ids:
        raise click.UsageError("Give either IDs or --all-matching, not both.")
    if all_matching and not filtered:
        raise click.UsageError(
            "--all-matching needs a filter: --tool, --reason, --since or --fingerprint; --since 9999d takes all."
        )
    if filtered and not all_matching:
        raise click.UsageError("Filters go with --all-matching.")
    if not letter_ids and not all_matching:
        raise click.UsageError("Missing argument 'ID...', or --all-matching with a filter.")


@dataclass(frozen=True, slots=True)
class Session:
    """What an operator's command works with."""

    store: DeadLetterStore
    finder: LetterFinder
    probe: Probe
    connection: Connection


async def with_session(settings: Settings, main: Callable[[Session], Awaitable[T]]) -> T:
    """Run *main* with what it works with; what it did is exported before this returns."""
    from toolspan.operate.letter_finder import LetterFinder  # noqa: PLC0415
    from toolspan.store import Connection, DeadLetterStore  # noqa: PLC0415
    from toolspan.telemetry.one_shot import for_one_command  # noqa: PLC0415

    redact = redactor(settings)
    connection = Connection.to(settings.redis_url)
    about: Any = {"keys": settings.keys, "instance_id": me(), "server": connection.address, "redact": redact}
    async with for_one_command("operator", complain=complain, **about) as probe:
        try:
            store, finder = DeadLetterStore(connection, settings.keys), LetterFinder(connection, settings)
            return await main(Session(store, finder, probe, connection))
        finally:
            await connection.aclose()


@contextmanager
def stoppable(left: str = "what is done stays done, and the same command does the rest") -> Iterator[None]:
    """Say of a command that is stopped by a signal that it has not come to its end, and what it has *left*."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        fail(f"stopped before the end: {left}", FAILED)


def me() -> str:
    """Name who is asking."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container, a user need not have a name.
        return f"uid {os.getuid()}"


def tell_left_out(ids: Sequence[str]) -> None:
    """Say on stderr which entries cannot be read."""
    if ids:
        named = ", ".join(ids[:_NAMED]) + (" …" if ids[_NAMED:] else "")
        complain(f"left out, for no worker wrote it, or it was changed since: {named}; `toolspan dlq show` says more")
