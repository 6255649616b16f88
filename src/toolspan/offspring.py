"""Child processes that do not outlive us, even when we are killed."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG: Final = 1


def ends_with_us(signal: int) -> Callable[[], None] | None:
    """Make a `preexec_fn` that has the kernel send *signal* to the child when the thread that starts it ends.

    Linux only; None elsewhere. See https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal)
        if os.getppid() != parent:
            # We were gone before it was armed.
            os.kill(os.getpid(), signal)

    return arm
