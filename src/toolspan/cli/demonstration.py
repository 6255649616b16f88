"""The command that shows it all: demo."""

from __future__ import annotations

import asyncio

import click

from toolspan.cli import signals
from toolspan.cli.output import FAILED, example, fail, reported, run


@click.command(**example("toolspan demo", "toolspan demo --keep"))
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@reported
def demo(*, keep: bool) -> None:
    """Run a gateway, two workers and a load on this machine; kill one worker; show that nothing is lost."""
    try:
        from toolspan.demo.show import show  # noqa: PLC0415
    except ImportError as exc:
        fail(f"the demo needs more than is installed ({exc.name}): pip install 'toolspan[all]'", FAILED)

    async def main() -> None:
        until = asyncio.Event()
        with signals.told(asyncio.get_running_loop(), until.set):
            await show(keep=keep, until=until)

    run(main())
