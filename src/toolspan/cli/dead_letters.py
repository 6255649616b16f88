"""The commands that look at dead letters: dlq ls, show; and the group of all that are about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from toolspan.cli.dead_letter_ends import discard, purge
from toolspan.cli.dead_letter_export import export
from toolspan.cli.dead_letter_replay import replay
from toolspan.cli.operators import chosen, filters, tell_left_out, with_session
from toolspan.cli.output import example, json_option, print_json, print_json_array, print_table, reported, run
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.cli.operators import Session
    from toolspan.model import DeadLetter
    from toolspan.operate.dead_letters import Cause

_SHOWN: Final = 80
_NONE: Final = "There are no dead letters."


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
    from toolspan.operate.dead_letters import causes, find  # noqa: PLC0415

    wanted = chosen(**filtered)
    left_out: list[str] = []

    async def main(session: Session) -> None:
        letters = find(session.store, wanted, left_out=left_out)
        if group_by:
            _print_causes(await causes(letters), as_json=as_json)
        elif as_json:
            await print_json_array(_told(letter) async for letter in letters)
        else:
            columns = ("id", "at", "tool", "reason", "fingerprint", "error")
            print_table(columns, await _rows(letters), empty=_NONE)

    run(with_session(Settings.load(), main))
    tell_left_out(left_out)


async def _rows(letters: AsyncIterator[DeadLetter]) -> list[Sequence[str]]:
    """Keep of each dead letter what one line shows: there may be many, and large ones."""
    rows: list[Sequence[str]] = []
    async for letter in letters:
        told = _told(letter)
        error = letter.error_message[:_SHOWN]
        rows.append((told["id"], told["at"], told["tool"], letter.reason, letter.fingerprint, error))
    return rows


@dlq.command(**example("toolspan dlq show 1795510081801-0"))
@click.argument("letter_id", metavar="ID")
@json_option
@reported
def show(letter_id: str, as_json: bool) -> None:
    """Show all that is known of one dead letter."""
    from toolspan.operate.dead_letters import one  # noqa: PLC0415

    async def main(session: Session) -> DeadLetter:
        return await one(session.store, letter_id)

    letter = run(with_session(Settings.load(), main))
    told = _told(letter)
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        if name not in {"attempts", "fields", "stack"}:
            click.echo(f"{name:<16}{value}")
    for attempt in told["attempts"]:
        click.echo(f"{'attempt':<16}{attempt['attempt']} on {attempt['consumer']}: {attempt['error']}")
    for name, value in told["fields"]:
        click.echo(f"{'field':<16}{name} = {value[:_SHOWN]}")
    if letter.stack:
        click.echo(f"\n{letter.stack}")


def _told(letter: DeadLetter) -> dict[str, Any]:
    """Say what a dead letter is, for people and machines."""
    from toolspan.operate.dead_letters import tool_of  # noqa: PLC0415

    texts = [part.decode(errors="replace") for part in letter.fields]
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
        "fields": list(zip(texts[::2], texts[1::2], strict=True)),
        "stack": letter.stack,
    }


def _print_causes(causes: list[Cause], *, as_json: bool) -> None:
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
    print_table(("fingerprint", "count", "tool", "reason", "latest error"), rows, empty=_NONE)
