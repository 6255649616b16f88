"""The scripts that Toolspan runs in Redis."""

from __future__ import annotations

from importlib.resources import files

from toolspan.store.scripts import compose


def all_scripts() -> list[str]:
    """Give the text of each."""
    folder = files("toolspan.store") / "lua"
    return [compose(file.name.removesuffix(".lua")) for file in folder.iterdir() if file.name.endswith(".lua")]
