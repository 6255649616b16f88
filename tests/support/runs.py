"""What the tools of the toolbox leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def starts(path: Path) -> int:
    """Count how often a tool that marks *path* was begun."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def starts_in(folder: Path) -> dict[str, int]:
    """Count the same for every file of *folder* that a tool marked; a file that releases tools is empty."""
    return {path.name: count for path in folder.iterdir() if (count := starts(path))}
