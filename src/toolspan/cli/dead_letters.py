"""The commands for dead letters: dlq ls, show, replay, discard."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import click

from toolspan.cli.durations import seconds
from toolspan.cli.output import FAILED, example, fail, json_option, print_json, print_table, reported, run
from toolspan.errors import MalformedEntryError, NotReplayableError
from toolspan.model import DeadLetterReason
from toolspan.settings import Settings
from toolspan.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from toolspan.model import DeadLetter
    from toolspan.store import DeadLetterStore
    from toolspan.telemetry.probe import Probe

T = TypeVar("T")

_SHOWN: Final = 80
_NAMED: Final = 10


@click.group(**example("toolspan dlq ls --since 1h", "toolspan dlq show 1795510081801-0"))
def dlq() -> None:
    """Dead letters: calls that could not be ended in the ordinary way."""


@dlq.command(**example("toolspan dlq ls --reason worker_lost --since 1h"))
@click.option("--tool", help="Only calls of this tool.")
@click.option("--reason", type=click.Choice(get_args(DeadLetterReason)), help="Only of this reason.")
@click.option("--since", metavar="DURATION", help="Only the newest: 30s, 15m, 2h, 7d.")
@click.option("--group-by", type=click.Choice(["fingerprint"]), help="One row for each cause.")
@json_option
@reported
def ls(tool: str | None, reason: str | None, since: str | None, group_by: str | None, as_json: bool) -> None:
    """List dead letters, oldest first."""
    from toolspan.operate.dead_letters import Filter, find  # noqa: PLC0415

    since_ms = None if since is None else time.time_ns() // 1_000_000 - seconds(since, "--since") * 1000
    wanted = Filter(tool, reason, since_ms)

    left_out: list[str] = []

    async def main(store: DeadLetterStore, _: Probe) -> list[DeadLetter]:
        return [letter async for letter in find(store, wanted, left_out=left_out)]

    letters = run(_with_store(Settings.load(), main))
    if left_out:
        named = ", ".join(left_out[:_NAMED]) + (" …" if left_out[_NAMED:] else "")
        message = f"left out, for no worker wrote it, or it was changed since: {named}; `toolspan dlq show` says more"
        click.echo(f"toolspan: {message}", err=True)
    if group_by:
        _print_causes(letters, as_json=as_json)
    elif as_json:
        print_json([_told(letter) for letter in letters])
    else:
        rows = [
            (told["id"], told["at"], told["tool"], letter.reason, letter.fingerprint, letter.error_message[:_SHOWN])
            for letter in letters
            for told in (_told(letter),)
        ]
        print_table(("id", "at", "tool", "reason", "fingerprint", "error"), rows, empty="There are no dead letters.")


@dlq.command(**example("toolspan dlq show 1795510081801-0"))
@click.argument("letter_id", metavar="ID")
@json_option
@reported
def show(letter_id: str, as_json: bool) -> None:
    """Show all that is known of one dead letter."""

    async def main(store: DeadLetterStore, _: Probe) -> DeadLetter:
        return await _one(store, letter_id)

    letter = run(_with_store(Settings.load(), main))
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


@dlq.command(**example("toolspan dlq replay 1795510081801-0"))
@click.argument("letter_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--did-not-run", is_flag=True, help="Replay one whose outcome is unknown: you know that it did not run.")
@click.option("--run-again", is_flag=True, help="Replay one that ran, and whose reply could not be written.")
@json_option
@reported
def replay(letter_ids: tuple[str, ...], did_not_run: bool, run_again: bool, as_json: bool) -> None:
    """Put dead letters back on the stream, each as a new call."""
    from toolspan.codec import Codec, Limits  # noqa: PLC0415
    from toolspan.operate import dead_letters  # noqa: PLC0415

    settings = Settings.load()
    limits = Limits(settings.max_args_bytes, settings.max_reply_bytes, settings.max_nesting)
    codec, who = Codec(settings.keys, limits), _me()
    asked = {"did_not_run": did_not_run, "run_again": run_again}
    done: list[dict[str, str]] = []
    refused: list[str] = []

    async def main(store: DeadLetterStore, probe: Probe) -> None:
        for letter_id in letter_ids:
            try:
                letter = await _one(store, letter_id)
                call_id, entry_id = await dead_letters.replay(store, letter, probe, codec=codec, who=who, **asked)
                done.append({"dead_letter": letter_id, "call_id": call_id, "entry_id": entry_id})
            except (NotReplayableError, MalformedEntryError) as exc:
                refused.append(str(exc))

    try:
        run(_with_store(settings, main))
    finally:
        # Whatever ended it half-way: what is back on the stream by then runs.
        if done or refused:
            _print_replayed(done, refused, as_json=as_json)
    if refused:
        sys.exit(FAILED)


def _print_replayed(done: list[dict[str, str]], refused: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"replayed": done, "refused": refused})
    else:
        for one in done:
            click.echo(f"{one['dead_letter']} replayed as call {one['call_id']}, entry {one['entry_id']}")
    for problem in refused:
        click.echo(f"toolspan: {problem}", err=True)


@dlq.command(**example('toolspan dlq discard 1795510081801-0 --why "test data"'))
@click.argument("letter_id", metavar="ID")
@click.option("--why", required=True, help="For the audit stream.")
@json_option
@reported
def discard(letter_id: str, why: str, as_json: bool) -> None:
    """Throw a dead letter away."""
    from toolspan.operate import dead_letters  # noqa: PLC0415

    async def main(store: DeadLetterStore, probe: Probe) -> bool:
        letter = await _one(store, letter_id)
        return await dead_letters.discard(store, letter, probe, who=_me(), why=why)

    if not run(_with_store(Settings.load(), main)):
        fail(f"{letter_id} is gone: somebody else has ended it", FAILED)
    if as_json:
        print_json({"discarded": letter_id})
    else:
        click.echo(f"{letter_id} discarded")


async def _one(store: DeadLetterStore, letter_id: str) -> DeadLetter:
    letter = await store.one(letter_id) if re.fullmatch(r"\d+(-\d+)?", letter_id) else None
    if letter is None:
        message = f"there is no dead letter {letter_id}: `toolspan dlq ls` lists them; a replayed one is gone"
        raise NotReplayableError(message)
    return letter


async def _with_store(settings: Settings, main: Callable[[DeadLetterStore, Probe], Awaitable[T]]) -> T:
    from toolspan.store import Connection, DeadLetterStore  # noqa: PLC0415
    from toolspan.telemetry.setup import start  # noqa: PLC0415

    configure("error")
    connection = Connection.to(settings.redis_url)
    telemetry = start("operator", keys=settings.keys, instance_id=_me(), server=connection.address)
    try:
        return await main(DeadLetterStore(connection, settings.keys), telemetry.probe)
    finally:
        await connection.aclose()
        await asyncio.to_thread(telemetry.shutdown)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container, a user need not have a name.
        return f"uid {os.getuid()}"


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


def _print_causes(letters: list[DeadLetter], *, as_json: bool) -> None:
    causes: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        causes.setdefault(letter.fingerprint, []).append(letter)
    told = [
        {
            "fingerprint": name,
            "count": len(same),
            **{k: _told(same[-1])[k] for k in ("tool", "reason", "error_message")},
        }
        for name, same in sorted(causes.items(), key=lambda item: -len(item[1]))
    ]
    if as_json:
        print_json(told)
        return
    rows = [(c["fingerprint"], str(c["count"]), c["tool"], c["reason"], c["error_message"][:_SHOWN]) for c in told]
    columns = ("fingerprint", "count", "tool", "reason", "latest error")
    print_table(columns, rows, empty="There are no dead letters.")
