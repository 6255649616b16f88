"""The package itself: what it offers can be seen without being loaded."""

from __future__ import annotations

import subprocess
import sys

import toolspan


def test_all_that_is_offered_can_be_seen_and_loaded() -> None:
    assert set(toolspan.__all__) <= set(dir(toolspan))
    assert all(getattr(toolspan, name) is not None for name in toolspan.__all__)


def test_looking_loads_nothing() -> None:
    looks = "import sys, toolspan; dir(toolspan); print('toolspan.gateway' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
