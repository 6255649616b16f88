"""`python -m toolspan`, and the `toolspan` command."""

from __future__ import annotations

import atexit
import gc
import sys
import traceback
from typing import TYPE_CHECKING

from toolspan.cli import signals

if TYPE_CHECKING:
    from types import TracebackType


def main() -> None:
    """Run the command line."""
    # Before anything heavy is imported: a SIGTERM at any time ends in order.
    signals.install()
    sys.excepthook = _tell
    # The system takes everything back at once: looking for cycles in it first is a third of a short command's time.
    atexit.register(gc.freeze)
    from toolspan.cli.main import cli  # noqa: PLC0415

    try:
        cli()
    finally:
        signals.forget()


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what nobody has caught, without what looks like a secret."""
    from toolspan.redaction import without_secrets  # noqa: PLC0415

    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


if __name__ == "__main__":
    main()
