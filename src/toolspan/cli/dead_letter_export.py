"""The command that writes dead letters down: dlq export."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from toolspan.cli.operators import chosen, filters, stoppable, tell_left_out, with_session
from toolspan.cli.output import FAILED, example, fail, reported, run, say
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolspan.cli.operators import Session


@click.command(
    **example(
        "toolspan dlq export --since 7d --out letters.jsonl",
        "toolspan dlq export --tool search | jq -r .id",
    )
)
@filters
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to; without it, stdout.")
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@reported
def export(*, out: Path | None, force: bool, **filtered: Any) -> None:
    """Write dead letters down, byte for byte: one JSON object on each line.

    `id` is the dead letter's; `fields` is all that lies under it, in order, as [name, value] pairs: the original call's
    fields, and those about its end, `dlq.*`. Names and values are strings where they are UTF-8, otherwise
    {"base64": "..."}. A call that was kept whole, packed in `dlq.raw`, is unpacked in `original`. What a worker wrote
    says `tool`, `reason`, `fingerprint` and `at_ms` besides. What cannot be read is there too, if there is no filter,
    with the cause as `unreadable`.

    FILE is readable for you alone, and there only if it is complete.
    """
    from toolspan.operate.dead_letters import entries  # noqa: PLC0415
    from toolspan.operate.exports import exported  # noqa: PLC0415

    wanted = chosen(**filtered)
    left_out: list[str] = []
    count = 0

    with _created(out, force=force) as file:

        async def main(session: Session) -> None:
            nonlocal count
            async for entry in entries(session.store, await wanted.dated(session.store), left_out=left_out):
                file.write(exported(entry) + b"\n")
                count += 1

        with stoppable("the export is not whole" if out is None else f"{out} was not written"):
            run(with_session(Settings.load(), main))
    if out is not None:
        say(f"{count} dead letters written to {out}")
    tell_left_out(left_out)


@contextmanager
def _created(path: Path | None, *, force: bool) -> Iterator[IO[bytes]]:
    """Make a file that is at *path* once the block has been left without an error; without one, give stdout."""
    if path is None:
        yield sys.stdout.buffer
        return
    import os  # noqa: PLC0415
    from tempfile import NamedTemporaryFile  # noqa: PLC0415

    try:
        if path.exists() and not (force and path.is_file()):
            fail(f"{path} is there already: choose another --out" + (", or --force" if path.is_file() else ""), FAILED)
        file = NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    except OSError as exc:
        fail(f"cannot write {path}: {exc.strerror}", FAILED)
    try:
        with file:
            yield file
        if force:
            Path(file.name).replace(path)
        else:
            # Unlike a rename it fails if somebody has made the file meanwhile.
            os.link(file.name, path)
    except OSError as exc:
        fail(f"cannot write {path}: {exc.strerror}", FAILED)
    finally:
        Path(file.name).unlink(missing_ok=True)
