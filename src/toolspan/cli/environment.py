"""The commands about where we run: config, wait-for."""

from __future__ import annotations

import math

import click

from toolspan.cli.output import (
    FAILED,
    NO_REDIS,
    WRONG_USAGE,
    complain,
    example,
    fail,
    json_option,
    print_json,
    print_table,
    reported,
    run,
)
from toolspan.errors import SettingsError, StoreUnavailableError, ToolspanError
from toolspan.settings import Settings, unknown_variables


@click.command(**example("toolspan config"))
@json_option
@reported
def config(as_json: bool) -> None:
    """List all settings, and where each comes from; secrets are hidden. What sets nothing is told on stderr."""
    for variable in unknown_variables():
        complain(str(variable))
    lines = Settings.load().described()
    if as_json:
        print_json([line._asdict() for line in lines])
    else:
        print_table(("variable", "value", "from", "meaning"), lines, empty="")


@click.command(**example("toolspan wait-for redis://127.0.0.1:6379 http://127.0.0.1:8080/readyz --timeout 60"))
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds to wait.")
def wait_for(urls: tuple[str, ...], timeout: float) -> None:
    """Wait until everything at the URLs answers: redis, rediss, unix, their +sentinel, http, https, tcp."""
    from toolspan.operate.readiness import wait_for as waiting  # noqa: PLC0415

    if math.isnan(timeout):
        raise click.BadParameter("nan is not a number of seconds", param_hint="'--timeout'")
    try:
        run(waiting(urls, within=timeout))
    except SettingsError as exc:
        fail(str(exc), WRONG_USAGE)
    except StoreUnavailableError as exc:
        fail(str(exc), NO_REDIS)
    except ToolspanError as exc:
        fail(str(exc), FAILED)
