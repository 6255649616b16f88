"""The command that puts dead letters back: dlq replay."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Final

import click

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
from toolspan.cli.output import FAILED, complain, example, json_option, print_json, reported, run, say
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.cli.operators import Session
    from toolspan.model import DeadLetter, Failed
    from toolspan.operate.dead_letters import Filter, Said
    from toolspan.operate.replays import Refused, Replayed

_WAIT_SECONDS: Final = 30.0


@click.command(
    **example(
        "toolspan dlq replay 1795510081801-0 --wait",
        "toolspan dlq replay --all-matching --reason worker_lost --since 2h --dry-run",
        "toolspan dlq replay --all-matching --fingerprint 1f0c6a2b9d3e4f57 --rate 5",
    )
)
@ids_argument
@all_matching_option
@filters
@click.option("--dry-run", is_flag=True, help="Only tell what would be replayed, and what refused and why.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most so many in a second.")
@click.option("--wait", is_flag=True, help="Wait for the new calls to end, and tell how each did.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="S",
    help=f"Seconds to wait after the last was put back; {_WAIT_SECONDS:g} without it.",
)
@click.option("--did-not-run", is_flag=True, help="Replay one whose outcome is unknown: you know that it did not run.")
@click.option("--run-again", is_flag=True, help="Replay one that ran, and whose reply could not be written.")
@json_option
@reported
def replay(
    *,
    letter_ids: tuple[str, ...],
    all_matching: bool,
    dry_run: bool,
    rate: float | None,
    wait: bool,
    timeout: float | None,
    did_not_run: bool,
    run_again: bool,
    as_json: bool,
    **filtered: Any,
) -> None:
    """Put dead letters back on the stream, each as a new call.

    IDs are those of dead letters, or of their entries or calls.

    --all-matching takes the dead letters that lie there when it starts, oldest first, and refuses to run without a
    filter. Stopped half-way it can be started again: what is replayed is no dead letter any more.

    A call that fails becomes a dead letter again. With --wait its failure is told to you instead, also if you have
    stopped waiting: then nothing keeps it.
    """
    from toolspan.operate.dead_letters import Said  # noqa: PLC0415

    wanted = chosen(**filtered)
    refuse_unclear(letter_ids, wanted, all_matching=all_matching)
    _refuse_unmeant(rate, timeout, wait=wait, dry_run=dry_run)
    told = _Told(as_json=as_json, dry_run=dry_run, wait=wait)
    replaying = _Replaying(
        Settings.load(),
        told,
        letter_ids=letter_ids,
        wanted=wanted,
        said=Said(did_not_run, run_again),
        rate=rate,
        timeout=_WAIT_SECONDS if timeout is None else timeout,
    )
    try:
        with stoppable():
            run(with_session(replaying.settings, replaying.rehearse if dry_run else replaying.run))
        told.whole = True
    finally:
        # Whatever ended it half-way: what is back on the stream by then runs.
        told.end()
    if told.failed:
        sys.exit(FAILED)


def _refuse_unmeant(rate: float | None, timeout: float | None, *, wait: bool, dry_run: bool) -> None:
    # Not a number is neither below nor above anything, so click lets it pass.
    for name, value in (("--rate", rate), ("--timeout", timeout)):
        if value is not None and not math.isfinite(value):
            raise click.BadParameter(f"{value} is not a number that anything can be held to", param_hint=f"'{name}'")
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait.")
    if dry_run and wait:
        raise click.UsageError("Give either --dry-run or --wait, not both: there is nothing to wait for.")


class _Replaying:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        told: _Told,
        *,
        letter_ids: Sequence[str],
        wanted: Filter,
        said: Said,
        rate: float | None,
        timeout: float,
    ) -> None:
        from toolspan.codec import Codec, Limits  # noqa: PLC0415

        self.settings = settings
        self._letter_ids = letter_ids
        self._wanted = wanted
        self._told = told
        self._timeout = timeout
        limits = Limits(settings.max_args_bytes, settings.max_reply_bytes, settings.max_nesting)
        self._codec = Codec(settings.keys, limits)
        self._how: dict[str, Any] = {"codec": self._codec, "who": me(), "said": said, "rate": rate}

    async def rehearse(self, session: Session) -> None:
        from toolspan.operate.replays import Refused, Replayer  # noqa: PLC0415

        wanted = await self._wanted.dated(session.store)
        replayer = Replayer(session.store, session.probe, **self._how)
        async for found in replayer.rehearse(self._letters(session, wanted)):
            if isinstance(found, Refused):
                self._told.refused(found)
            else:
                self._told.would_replay(found)

    async def run(self, session: Session) -> None:
        from toolspan.operate.answers import Answers  # noqa: PLC0415

        if not self._told.wait:
            await self._replay(session, None)
            return
        async with Answers(session.connection, self.settings.keys, self._codec, session.probe) as answers:
            await self._replay(session, answers.reply_to)
            async for call_id, failure in answers.to(self._told.calls, within=self._timeout):
                self._told.ended(call_id, failure)

    async def _replay(self, session: Session, reply_to: str | None) -> None:
        from toolspan.operate.replays import Refused, Replayer  # noqa: PLC0415

        wanted = await self._wanted.dated(session.store)
        how = {**self._how, "reply_to": reply_to, "matching": str(wanted)}
        replayer = Replayer(session.store, session.probe, **how)
        async for done in replayer.replay(self._letters(session, wanted)):
            if isinstance(done, Refused):
                self._told.refused(done)
            else:
                self._told.replayed(done)

    def _letters(self, session: Session, wanted: Filter) -> AsyncIterator[DeadLetter | Refused]:
        from toolspan.operate.dead_letters import find_now  # noqa: PLC0415
        from toolspan.operate.replays import each_of  # noqa: PLC0415

        if self._letter_ids:
            return each_of(session.finder, self._letter_ids)
        return find_now(session.store, wanted)


class _Told:
    """What the command prints: for people line by line as it happens, for machines at its end."""

    def __init__(self, *, as_json: bool, dry_run: bool, wait: bool) -> None:
        self._as_json = as_json
        self._dry_run = dry_run
        self.wait = wait
        self.whole = False
        self.calls: dict[str, dict[str, Any]] = {}
        """What was replayed, by the id of the new call."""
        self._would: list[str] = []
        self._refused: list[str] = []

    def replayed(self, done: Replayed) -> None:
        told = {"dead_letter": done.dead_letter, "call_id": done.call_id, "entry_id": done.entry_id}
        self.calls[done.call_id] = told | ({"ended": None} if self.wait else {})
        self._say(f"{done.dead_letter} replayed as call {done.call_id}, entry {done.entry_id}")

    def would_replay(self, letter: DeadLetter) -> None:
        self._would.append(letter.id)
        self._say(f"{letter.id} would be replayed")

    def refused(self, one: Refused) -> None:
        self._refused.append(one.why)
        complain(one.why)

    def ended(self, call_id: str, failure: Failed | None) -> None:
        self.calls[call_id]["ended"] = failure.type if failure else "ok"
        if failure:
            self.calls[call_id]["error_message"] = failure.message
        said = f"{failure.type}: {failure.message}" if failure else "ok"
        self._say(f"{self.calls[call_id]['dead_letter']} as call {call_id} ended: {said}")

    def end(self) -> None:
        """Print what is to be said at the end, which may be early."""
        self._tell_unanswered()
        if not self._as_json:
            if self.whole and not self.calls and not self._would and not self._refused:
                click.echo("No dead letter matches.")
            elif self._dry_run:
                click.echo(f"{len(self._would)} would be replayed, {len(self._refused)} refused")
        elif self._dry_run:
            print_json({"would_replay": self._would, "would_refuse": self._refused})
        elif self.whole or self.calls or self._refused:
            print_json({"replayed": list(self.calls.values()), "refused": self._refused})

    @property
    def failed(self) -> bool:
        """Whether anything was refused, or did not succeed."""
        return bool(self._refused) or (self.wait and any(told["ended"] != "ok" for told in self.calls.values()))

    def _tell_unanswered(self) -> None:
        if self.wait:
            for call_id, told in self.calls.items():
                if told["ended"] is None:
                    message = f"{told['dead_letter']} as call {call_id} has not ended yet: it waits, or runs"
                    complain(message)

    def _say(self, line: str) -> None:
        if not self._as_json:
            say(line)
