"""The commands that ask something of the workers: pause, resume, drain."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from toolspan.cli.inspection import ask, said
from toolspan.cli.operators import me, with_session
from toolspan.cli.output import complain, example, json_option, print_json, reported, run, say
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from toolspan.cli.operators import Session
    from toolspan.model import Order
    from toolspan.operate.control import Operator

    T = TypeVar("T")

why_option = click.option("--why", default="", metavar="TEXT", help="The reason, for the audit stream and for others.")


@click.command(**example('toolspan pause search --why "the index is down"', "toolspan pause --list"))
@click.argument("tool", required=False)
@click.option("--list", "listed", is_flag=True, help="List what is paused.")
@why_option
@json_option
@reported
def pause(tool: str | None, listed: bool, why: str, as_json: bool) -> None:
    """Have the calls of TOOL wait: nothing is lost, and what runs goes on."""
    if listed and (tool or why):
        raise click.UsageError("--list stands alone.")
    if listed:
        _list(as_json=as_json)
        return
    if not tool:
        raise click.UsageError("Missing argument 'TOOL', or --list.")

    async def main(operator: Operator) -> tuple[Order | None, int, str | None]:
        return (
            await operator.pause(tool, why=_legible(why)),
            await operator.served(tool),
            await operator.stream_of(tool),
        )

    known, served, where = _operate(main)
    if as_json:
        print_json({"tool": tool, "anew": known is None, "served_by": served, "before": known and asdict(known)})
    elif known is not None:
        say(f"{tool} was paused before, by {known.who}{f': {known.why}' if known.why else ''}")
    else:
        say(f"{tool} is paused: its calls wait until `toolspan resume {tool}`, and those that run go on")
    if not served:
        complain(
            f"no live worker serves {tool} now; is it spelt like that?" if where is None else _elsewhere(tool, where)
        )


@click.command(**example("toolspan resume search"))
@click.argument("tool")
@why_option
@json_option
@reported
def resume(tool: str, why: str, as_json: bool) -> None:
    """Have the calls of TOOL run again; those that wait are due at once."""

    async def main(operator: Operator) -> int:
        return await operator.resume(tool, why=_legible(why))

    hastened = _operate(main)
    if as_json:
        print_json({"tool": tool, "hastened": hastened})
    else:
        say(f"{tool} runs again; {hastened} calls that waited are due now")


@click.command(**example('toolspan drain web-1-4242-a1b2 --why "new kernel" --wait', "toolspan consumers"))
@click.argument("consumer")
@why_option
@click.option("--wait", is_flag=True, help="Wait until it has gone.")
@click.option(
    "--timeout", type=click.FloatRange(0, 86_400), default=60.0, show_default=True, help="Seconds to wait at most."
)
@json_option
@reported
def drain(consumer: str, why: str, wait: bool, timeout: float, as_json: bool) -> None:
    """Ask the worker CONSUMER to take nothing more, to finish what it holds, and to go."""

    async def main(operator: Operator) -> bool:
        anew = await operator.drain(consumer, why=_legible(why))
        if wait:
            if not as_json:
                say(f"{consumer} is asked to go", err=True)
            await operator.gone(consumer, within=timeout)
        return anew

    anew = _operate(main)
    if as_json:
        print_json({"consumer": consumer, "anew": anew, "gone": wait})
    elif wait:
        say(f"{consumer} has gone")
    else:
        before = "" if anew else "was asked before: it "
        say(f"{consumer} {before}finishes what it holds, and goes")


def _elsewhere(tool: str, stream: str) -> str:
    command = f"TOOLSPAN_STREAM={stream} toolspan pause {tool}"
    return f"{tool} is served in the stream {stream} and not paused there: {command}"


def _list(*, as_json: bool) -> None:
    from toolspan.operate.status import paused  # noqa: PLC0415

    found = ask(paused)
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        click.echo("Nothing is paused.")
    for one in () if as_json else found:
        say(said(one))


def _operate(main: Callable[[Operator], Awaitable[T]]) -> T:
    settings = Settings.load()

    async def with_operator(session: Session) -> T:
        from toolspan.operate.control import Operator  # noqa: PLC0415

        return await main(Operator(session.connection, settings.keys, session.probe, who=me()))

    return run(with_session(settings, with_operator))


def _legible(text: str) -> str:
    """Give what can be written of *text*: a terminal may hand over any bytes."""
    return text.encode(errors="replace").decode()
