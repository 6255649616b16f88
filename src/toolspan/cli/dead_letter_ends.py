"""The commands that throw dead letters away: dlq discard, purge."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from toolspan.cli.durations import Duration
from toolspan.cli.operators import (
    all_matching_option,
    chosen,
    filters,
    ids_argument,
    me,
    refuse_unclear,
    stoppable,
    with_session,
)
from toolspan.cli.output import FAILED, complain, example, json_option, print_json, reported, run
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.cli.operators import Session
    from toolspan.model import DeadLetter, LetterEntry
    from toolspan.operate.dead_letters import Filter, Purged


def _said_why(_: click.Context, __: click.Parameter, why: str) -> str:
    if not why.strip():
        raise click.BadParameter("say in some words why, for whoever reads the audit stream")
    return why


_why = click.option("--why", required=True, callback=_said_why, help="For the audit stream.")


@click.command(
    **example(
        'toolspan dlq discard 1795510081801-0 --why "test data"',
        'toolspan dlq discard --all-matching --tool search --reason malformed --why "old producer" --dry-run',
    )
)
@ids_argument
@all_matching_option
@filters
@_why
@click.option("--dry-run", is_flag=True, help="Only tell what would be discarded.")
@json_option
@reported
def discard(
    *, letter_ids: tuple[str, ...], all_matching: bool, why: str, dry_run: bool, as_json: bool, **filtered: Any
) -> None:
    """Throw dead letters away, each with an entry in the audit stream.

    IDs are those of dead letters, those that cannot be read too, or of their entries or calls. --all-matching takes
    the dead letters that lie there when it starts, and refuses to run without a filter.
    """
    from toolspan.operate import dead_letters  # noqa: PLC0415

    asked = chosen(**filtered)
    refuse_unclear(letter_ids, asked, all_matching=all_matching)
    done: list[str] = []
    missed: list[str] = []

    async def main(session: Session) -> None:
        wanted = await asked.dated(session.store)
        async for letter in _letters(session, letter_ids, wanted, missed):
            if not dry_run and not await dead_letters.discard(
                session.store, letter, session.probe, who=me(), why=why, matching=str(wanted)
            ):
                _miss(f"{letter.id} is gone: somebody else has ended it", missed)
                continue
            done.append(letter.id)
            if not as_json:
                click.echo(f"{letter.id} {'would be ' if dry_run else ''}discarded")

    whole = False
    try:
        with stoppable():
            run(with_session(Settings.load(), main))
        whole = True
    finally:
        if as_json and (whole or done or missed):
            print_json({"would_discard" if dry_run else "discarded": done, "missed": missed})
    if not as_json and not done and not missed:
        click.echo("No dead letter matches.")
    if missed:
        sys.exit(FAILED)


async def _letters(
    session: Session, letter_ids: Sequence[str], wanted: Filter, missed: list[str]
) -> AsyncIterator[DeadLetter | LetterEntry]:
    from toolspan.errors import NotReplayableError  # noqa: PLC0415
    from toolspan.operate import dead_letters  # noqa: PLC0415

    if not letter_ids:
        async for letter in dead_letters.find_now(session.store, wanted):
            yield letter
    for letter_id in letter_ids:
        try:
            yield await session.finder.entry(letter_id)
        except NotReplayableError as exc:
            _miss(str(exc), missed)


def _miss(message: str, missed: list[str]) -> None:
    missed.append(message)
    complain(message)


@click.command(**example('toolspan dlq purge --older-than 30d --why "past the retention period"'))
@click.option(
    "--older-than", type=Duration(), required=True, metavar="DURATION", help="All from before: 30s, 15m, 2h, 30d."
)
@_why
@click.option("--dry-run", is_flag=True, help="Only tell how many would be deleted.")
@json_option
@reported
def purge(older_than: int, why: str, dry_run: bool, as_json: bool) -> None:
    """Delete old dead letters, those that cannot be read too, with one entry in the audit stream.

    TOOLSPAN_DLQ_RETENTION_DAYS has it done without you.
    """
    from toolspan.operate import dead_letters  # noqa: PLC0415

    async def main(session: Session) -> Purged:
        if dry_run:
            return await dead_letters.to_purge(session.store, older_than_seconds=older_than)
        return await dead_letters.purge(
            session.store,
            session.probe,
            older_than_seconds=older_than,
            who=me(),
            why=why,
            asked=f"older_than={older_than}s",
        )

    with stoppable():
        purged = run(with_session(Settings.load(), main))
    if as_json:
        print_json({"would_purge" if dry_run else "purged": purged.count, "up_to": purged.up_to})
        return
    up_to = f", up to {purged.up_to}" if purged.count else ""
    click.echo(f"{purged.count} dead letters {'would be ' if dry_run else ''}purged{up_to}")
