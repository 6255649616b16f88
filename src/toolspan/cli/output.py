"""What every command shares: how it runs, what it prints, and what it exits with."""

from __future__ import annotations

import asyncio
import json
import sys
import unicodedata
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypedDict, TypeVar

import click

from toolspan.cli import signals
from toolspan.codec import dumps
from toolspan.errors import (
    InvalidArguments,
    NotPermittedError,
    RedisUnavailable,
    SettingsError,
    StoreError,
    StoreUnavailableError,
    ToolDefinitionError,
    ToolspanError,
    UntrustedServerError,
    WrongTypeError,
)
from toolspan.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence

P = ParamSpec("P")
T = TypeVar("T")

FAILED: Final = 1
WRONG_USAGE: Final = 2
NO_REDIS: Final = 3

_AS_WIDE_AS_NEEDED: Final = 10_000
_LINE_ENDS: Final = "\u2028\u2029"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


class Epilog(TypedDict):
    """What click prints below a command's help."""

    epilog: str


def example(*lines: str) -> Epilog:
    """Give click the text below a command's help: how it is typed."""
    return Epilog(epilog="\b\nExample:\n" + "\n".join(f"  {line}" for line in lines))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* on the quickest loop that is installed; SIGTERM cancels it, and ends the process with 0.

    Raises:
        KeyboardInterrupt: on SIGINT, which cancels it too.
    """
    running = signals.cancelling(main)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(running)
    except asyncio.CancelledError:
        sys.exit(0)
    except signals.InterruptError:
        raise KeyboardInterrupt from None
    finally:
        # A signal may come before the loop is there: then neither has begun, and nobody is to be warned of it.
        running.close()
        main.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """Make the quickest event loop that is installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def reported(command: Callable[P, T]) -> Callable[P, T]:
    """Turn errors that a user can do something about into one sentence and an exit code."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (SettingsError, ToolDefinitionError) as exc:
            fail(str(exc), WRONG_USAGE)
        except UntrustedServerError as exc:
            fail(f"Redis cannot be reached: {exc}", NO_REDIS)
        except StoreUnavailableError as exc:
            fail(f"Redis cannot be reached: {exc}; is it running, and is TOOLSPAN_REDIS_URL right?", NO_REDIS)
        except RedisUnavailable as exc:
            cause = exc.__cause__
            if isinstance(cause, StoreError) and not isinstance(cause, StoreUnavailableError):
                fail(_refused(cause), FAILED)
            fail(f"{exc}; is it running, and is TOOLSPAN_REDIS_URL right?", NO_REDIS)
        except InvalidArguments as exc:
            fail(str(exc), FAILED)
        except StoreError as exc:
            fail(_refused(exc), FAILED)
        except ToolspanError as exc:
            fail(str(exc), FAILED)

    return wrapper


def _refused(exc: StoreError) -> str:
    if isinstance(exc, WrongTypeError):
        return f"Redis refused: {exc}; `toolspan doctor` names the key under which something else lies"
    if isinstance(exc, NotPermittedError):
        return f"Redis refused: {exc}; `toolspan doctor` says what this user lacks"
    return f"Redis refused: {exc}"


def fail(message: str, code: int) -> NoReturn:
    """Say one sentence on stderr and leave."""
    complain(message)
    sys.exit(code)


def complain(message: str) -> None:
    """Say one sentence on stderr."""
    say(f"toolspan: {without_secrets(' '.join(message.split()))}", err=True)


def say(line: str, *, err: bool = False) -> None:
    """Print one line, whoever chose the words in it."""
    click.echo(plain(line), err=err)


def plain(text: str) -> str:
    """Give what a terminal may be shown of *text* that others chose: nothing in it moves, colours or reorders."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if _is_unsafe(one) else one for one in text)


def plain_lines(text: str) -> str:
    """Give the same of a *text* of several lines, which they stay."""
    return "\n".join(plain(line.expandtabs()) for line in text.split("\n"))


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character)[0] == "C" or character in _LINE_ENDS


def print_json(value: Any) -> None:
    """Print *value* as JSON on one line, which a terminal can be shown and which loses nothing."""
    click.echo(_as_json(value))


async def print_json_array(values: AsyncIterator[Any]) -> None:
    """Print *values* as one JSON array on one line, each as it comes."""
    before = "["
    async for value in values:
        click.echo(before + _as_json(value), nl=False)
        before = ","
    click.echo("]" if before == "," else "[]")


def _as_json(value: Any) -> str:
    text = dumps(value).decode()
    if text.isprintable():
        return text
    return "".join(json.dumps(one)[1:-1] if _is_unsafe(one) else one for one in text)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    empty: str,
    whole: Collection[str] = (),
    shortened: str | None = None,
) -> None:
    """Print a table, or *empty* if there is nothing in it.

    Where there is little room, the columns that are *whole* keep one line, and what does not fit of the one that is
    *shortened* is left out.
    """
    if not rows:
        click.echo(empty)
        return
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=not whole, padding=(0, 1, 0, 0) if whole else (0, 1))
    for column in columns:
        # What does not fit goes on in the next line: an id that is cut is none.
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in rows:
        table.add_row(
            *(
                Text(plain(" ".join(cell.splitlines())), overflow="ellipsis", no_wrap=True)
                if column == shortened
                else Text(plain(" ".join(cell.splitlines())))
                for column, cell in zip(columns, row, strict=True)
            )
        )
    # Whoever reads a pipe wants one line for each row, as wide as it is.
    console = Console() if sys.stdout.isatty() else Console(width=_AS_WIDE_AS_NEEDED)
    console.print(table)
