"""The commands that look at dead letters: dlq ls, show; and the group of all that are about them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from toolspan.cli.dead_letter_ends import discard, purge
from toolspan.cli.dead_letter_export import export
from toolspan.cli.dead_letter_replay import replay
from toolspan.cli.operators import chosen, filters, tell_left_out, with_session
from toolspan.cli.output import (
    example,
    json_option,
    plain_lines,
    print_json,
    print_json_array,
    print_table,
    reported,
    run,
    say,
)
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.cli.operators import Session
    from toolspan.model import DeadLetter
    from toolspan.operate.dead_letters import Cause

_SHOWN: Final = 80
_WHOLE: Final = ("id", "at (UTC)", "reason", "fingerprint")


@click.group(**example("toolspan dlq ls --since 1h", "toolspan dlq show 1795510081801-0"))
def dlq() -> None:
    """Dead letters: calls that could not be ended in the ordinary way."""


for _command in (replay, discard, export, purge):
    dlq.add_command(_command)


@dlq.command(
    **example("toolspan dlq ls --reason worker_lost --since 1h", "toolspan dlq ls --group-by fingerprint"),
)
@filters
@click.option("--group-by", type=click.Choice(["fingerprint"]), help="One row for each cause.")
@json_option
@reported
def ls(*, group_by: str | None, as_json: bool, **filtered: Any) -> None:
    """List dead letters, oldest first."""
    from toolspan.operate.dead_letters import ALL, causes, find  # noqa: PLC0415

    wanted = chosen(**filtered)
    left_out: list[str] = []
    empty = "There are no dead letters." if wanted == ALL else "No dead letter matches."

    async def main(session: Session) -> None:
        letters = find(session.store, await wanted.dated(session.store), left_out=left_out)
        if group_by:
            _print_causes(await causes(letters), as_json=as_json, empty=empty)
        elif as_json:
            await print_json_array(_told(letter) async for letter in letters)
        else:
            columns = ("id", "at (UTC)", "tool", "reason", "fingerprint", "error")
            print_table(columns, await _rows(letters), empty=empty, whole=_WHOLE, shortened="error")

    run(with_session(Settings.load(), main))
    tell_left_out(left_out)


async def _rows(letters: AsyncIterator[DeadLetter]) -> list[Sequence[str]]:
    """Keep of each dead letter what one line shows: there may be many, and large ones."""
    from toolspan.operate.dead_letters import tool_of  # noqa: PLC0415

    rows: list[Sequence[str]] = []
    async for letter in letters:
        at = datetime.fromtimestamp(letter.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        error = letter.error_message[:_SHOWN]
        rows.append((letter.id, at, tool_of(letter), letter.reason, letter.fingerprint, error))
    return rows


@dlq.command(**example("toolspan dlq show 1795510081801-0", "toolspan dlq show 019a1b2c-… --json"))
@click.argument("letter_id", metavar="ID")
@json_option
@reported
def show(letter_id: str, as_json: bool) -> None:
    """Show all that is known of one dead letter: by its id, or that of its entry or its call.

    In JSON, names and values of the original's fields are strings where they are UTF-8, otherwise {"base64": "..."}.
    """

    async def main(session: Session) -> DeadLetter:
        return await session.finder.one(letter_id)

    letter = run(with_session(Settings.load(), main))
    told = _told(letter)
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        if name not in {"attempts", "fields", "stack"} and value is not None:
            say(f"{name:<16}{value}")
    for attempt in told["attempts"]:
        say(f"{'attempt':<16}{attempt['attempt']} on {attempt['consumer']}: {attempt['error'] or 'no error'}")
    for field, content in zip(letter.fields[::2], letter.fields[1::2], strict=True):
        say(f"{'field':<16}{_shown(field)} = {_shown(content)}")
    if letter.stack:
        click.echo(f"\n{plain_lines(letter.stack)}")


def _shown(part: bytes) -> str:
    """Give bytes for people: what is no UTF-8 escaped, and on a terminal not more than one looks at."""
    text = part.decode(errors="backslashreplace")
    if len(text) > _SHOWN and sys.stdout.isatty():
        return f"{text[:_SHOWN]} … ({len(part)} bytes; --json has them all)"
    return text


def _told(letter: DeadLetter) -> dict[str, Any]:
    """Say what a dead letter is, for people and machines."""
    from toolspan.operate.dead_letters import tool_of  # noqa: PLC0415
    from toolspan.operate.exports import exact_pairs  # noqa: PLC0415

    return {
        "id": letter.id,
        "entry_id": letter.entry_id,
        "at": datetime.fromtimestamp(letter.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "tool": tool_of(letter),
        "reason": letter.reason,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "fingerprint": letter.fingerprint,
        "consumer": letter.consumer,
        "traceparent": letter.traceparent,
        "reply": letter.reply,
        "attempts": [
            {"consumer": a.consumer, "attempt": a.attempt, "start": a.start_ms, "end": a.end_ms, "error": a.error}
            for a in letter.attempts
        ],
        "fields": exact_pairs(letter.fields),
        "stack": letter.stack,
    }


def _print_causes(causes: list[Cause], *, as_json: bool, empty: str) -> None:
    told = [
        {
            "fingerprint": cause.latest.fingerprint,
            "count": cause.count,
            **{k: v for k, v in _told(cause.latest).items() if k in {"tool", "reason", "error_message"}},
        }
        for cause in causes
    ]
    if as_json:
        print_json(told)
        return
    rows = [(c["fingerprint"], str(c["count"]), c["tool"], c["reason"], c["error_message"][:_SHOWN]) for c in told]
    columns = ("fingerprint", "count", "tool", "reason", "latest error")
    print_table(columns, rows, empty=empty, whole=_WHOLE, shortened="latest error")
