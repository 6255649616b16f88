"""The commands that look and change nothing: status, consumers, pending, explain."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from toolspan.cli.durations import Duration, told
from toolspan.cli.output import FAILED, example, fail, json_option, print_json, print_table, reported, run, say
from toolspan.errors import GroupMissingError
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from toolspan.operate.consumers import Consumer
    from toolspan.operate.explain import Life
    from toolspan.operate.pending import PendingCall
    from toolspan.operate.status import Paused, Status
    from toolspan.store import Connection

T = TypeVar("T")

_IN_WORDS: Final = {"parked": "holds parked calls", "unreadable": "registration cannot be read"}


@click.command(**example("toolspan status", "toolspan status --json"))
@json_option
@reported
def status(as_json: bool) -> None:
    """Show what the group looks like now, and whether somebody should look."""
    from toolspan.operate.status import status as measured  # noqa: PLC0415

    found = ask(measured)
    if as_json:
        print_json(asdict(found))
        return
    if not found.group:
        click.echo("There is no group yet: the first worker makes it.")
    rows = [
        ("undelivered", _figure(found.undelivered), told(found.oldest_undelivered_age)),
        ("pending", _figure(found.pending), told(found.oldest_pending_age)),
        ("parked", _figure(found.parked), told(found.oldest_parked_age)),
        ("dead letters", _figure(found.dead_letters), told(found.oldest_dead_letter_age)),
    ]
    print_table(("calls", "count", "oldest"), rows, empty="")
    click.echo(_workers(found))
    for one in found.paused:
        say(said(one))
    say("look: " + "; ".join(found.attention) if found.attention else "nobody need look")


def said(paused: Paused) -> str:
    """Say since when a tool is paused, by whom and why."""
    since = "" if paused.since is None else f" for {told(paused.since)}"
    by = f" by {paused.who}" if paused.who else ""
    return f"paused: {paused.tool}{since}{by}{f': {paused.why}' if paused.why else ''}"


def _workers(found: Status) -> str:
    draining = f", {found.draining_workers} draining" if found.draining_workers else ""
    unreadable = f", {len(found.unreadable)} that cannot be read" if found.unreadable else ""
    workers = f"{found.live_workers} live{draining}, {found.silent_workers} silent{unreadable}"
    return f"workers: {workers}; room for {found.room} calls"


def _figure(figure: int | None) -> str:
    return "unknown" if figure is None else str(figure)


@click.command(**example("toolspan consumers", "toolspan consumers --json"))
@json_option
@reported
def consumers(as_json: bool) -> None:
    """List the workers, and whoever else is in the group, with what each runs now."""
    from toolspan.operate.consumers import consumers as known  # noqa: PLC0415

    found = ask(known)
    if as_json:
        print_json([_consumer(one) for one in found])
        return
    columns = ("consumer", "state", "pending", "runs now", "busy", "heartbeat", "lease", "host", "version", "tools")
    print_table(columns, [_row(one) for one in found], empty="There are no workers and no consumers.")


def _row(one: Consumer) -> tuple[str, ...]:
    state = _IN_WORDS.get(one.state, one.state)
    beat = "" if one.silent_ms is None else f"{told(one.silent_ms / 1000)} ago"
    row = (one.name, state, _or_nothing(one.pending))
    worker = one.worker
    if worker is None:
        return (*row, "", "", beat, "", "", "", "")
    runs = ", ".join(f"{count} {tool}" for tool, count in sorted(Counter(worker.running.values()).items()))
    about = (
        *(runs, f"{len(worker.running)} of {worker.concurrency}", beat, told(worker.lease_ms / 1000)),
        *(f"{worker.host}, pid {worker.pid}", worker.version, ", ".join(sorted(worker.tools))),
    )
    return (*row, *about)


def _or_nothing(figure: int | None) -> str:
    return "" if figure is None else str(figure)


def _consumer(one: Consumer) -> dict[str, Any]:
    about: dict[str, Any] = {
        "consumer": one.name,
        "state": one.state,
        "pending": one.pending,
        "heartbeat_age": None if one.silent_ms is None else one.silent_ms / 1000,
    }
    worker = one.worker
    if worker is not None:
        about |= {
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "protocol": worker.protocol,
            "concurrency": worker.concurrency,
            "lease_seconds": worker.lease_ms / 1000,
            "running": dict(sorted(Counter(worker.running.values()).items())),
            "tools": sorted(worker.tools),
        }
    return about


@click.command(**example("toolspan pending --older 5m", "toolspan pending --parked --limit 20 --json"))
@click.option(
    "--older",
    type=Duration(),
    default="0s",
    metavar="DURATION",
    help="Only what was not renewed for so long: 30s, 5m, 2h.",
)
@click.option("--parked", is_flag=True, help="Those too that wait for their next attempt.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most.")
@json_option
@reported
def pending(older: int, parked: bool, limit: int, as_json: bool) -> None:
    """List the oldest calls that were handed out and are not settled."""
    from toolspan.operate.pending import pending as listed  # noqa: PLC0415

    try:
        found = ask(lambda *plane: listed(*plane, older_ms=older * 1000, parked=parked, limit=limit))
    except GroupMissingError:
        found = None
    if as_json:
        print_json(asdict(found) if found else {"calls": [], "more": False})
        return
    if found is None:
        click.echo("There is no group yet: the first worker makes it.")
        return
    rows = [
        (
            *(call.entry_id, call.call_id or "", _tool(call), call.consumer, str(call.attempt)),
            *(told(call.idle), told(call.runs_for), _left(call.deadline_left)),
        )
        for call in found.calls
    ]
    columns = ("entry", "call", "tool", "consumer", "attempt", "renewed ago", "runs for", "deadline")
    print_table(columns, rows, empty="Nothing is pending that was asked for.")
    if found.more:
        click.echo(f"These are the oldest {limit}, and there are more: raise --limit")


def _tool(call: PendingCall) -> str:
    return "(its body is deleted)" if call.deleted else call.tool or "(cannot be read)"


def _left(seconds_left: float | None) -> str:
    if seconds_left is None:
        return ""
    return f"in {told(seconds_left)}" if seconds_left > 0 else f"{told(-seconds_left)} ago"


@click.command(**example("toolspan explain 1795510081801-0", "toolspan explain 019a1b2c-… --scan 100000"))
@click.argument("asked", metavar="CALL_OR_ENTRY_ID")
@click.option(
    "--scan", type=click.IntRange(1), default=10_000, show_default=True, help="How many entries to search at most."
)
@json_option
@reported
def explain(asked: str, scan: int, as_json: bool) -> None:
    """Tell the life of one call: where it is, its attempts, what happened to it, what can be done."""
    from toolspan.operate.explain import explain as explained  # noqa: PLC0415

    found = ask(lambda connection, settings: explained(connection, settings, asked, scan=scan))
    bound = f"only the newest {scan} entries were searched, say --scan for more" if found.bounded else ""
    if not found.lives:
        meaning = (
            "it was settled, which leaves nothing behind, or was never appended, or was deleted; "
            "its trace, or the logs of gateway and workers, may know more"
        )
        fail(f"Redis knows no call {asked}: {bound or meaning}", FAILED)
    if as_json:
        print_json(asdict(found))
        return
    from toolspan.operate.guides import guide  # noqa: PLC0415

    docs = Settings.load().docs_url
    for life in found.lives:
        _print_life(life, guide(docs, life))
    if bound:
        click.echo(f"There may be more: {bound}")


def _print_life(life: Life, page: str | None) -> None:
    facts = {
        "entry": f"{life.entry_id}, appended {told(life.age)} ago" if life.age is not None else life.entry_id,
        "call": life.call_id,
        "tool": life.tool,
        "is": _place(life),
        "note": life.note,
        "deadline": _left(life.deadline_left),
        "principal": life.principal,
        "trace": life.trace_id,
        "replay of": life.replay_of,
        "attempt of": life.attempt_of,
    }
    for name, fact in facts.items():
        if fact:
            say(f"{name:<12}{fact}")
    for one in life.attempts:
        end = f"ended {told(one.ended)} ago: {one.error or 'no error'}" if one.ended is not None else "has no end yet"
        say(f"{'attempt':<12}{one.attempt} on {one.consumer}, began {told(one.began)} ago, {end}")
    for step in life.steps:
        say(f"{'step':<12}{told(step.ago)} ago: {step.event} by {step.consumer}, {step.reason}")
    for command in life.next:
        say(f"{'next':<12}{command}")
    if page:
        say(f"{'read':<12}{page}")


def _place(life: Life) -> str:
    if life.place == "in_flight":
        return f"in flight on {life.held_by}, attempt {life.attempt}, renewed {told(life.idle)} ago"
    if life.place == "parked":
        due = f"due {_left(life.due)}" if life.due is not None else "without a due time, which a worker will give it"
        return f"parked, {due}, after {life.reason or 'what is not on record'}"
    if life.place == "dead_letter":
        return f"dead letter {life.dead_letter}, {life.reason}"
    if life.place == "deleted":
        return f"deleted, held by {life.held_by}"
    return {"waiting": "waiting for a worker", "passed_by": "passed by", "gone": "gone"}[life.place]


def ask(question: Callable[[Connection, Settings], Awaitable[T]]) -> T:
    """Ask Redis a question, on a connection of its own."""
    settings = Settings.load()

    async def main() -> T:
        from toolspan.store import Connection  # noqa: PLC0415

        connection = Connection.to(settings.redis_url)
        try:
            return await question(connection, settings)
        finally:
            await connection.aclose()

    return run(main())
