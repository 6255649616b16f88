"""What a page names in its sentences: commands, settings, panels; and which of it does not exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from dashboards.source.build import BOARDS
from toolspan.cli.main import cli
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLES = {panel["title"] for board in BOARDS for panel in board.json()["panels"]}


def unknown_commands(page: str) -> list[str]:
    """The commands that cannot be typed: in backquotes, beginning with `toolspan`."""
    return [command for command in re.findall(r"`toolspan ([a-z][^`]*)`", page) if _unknown(command)]


def unknown_settings(page: str) -> set[str]:
    """The variables that set nothing."""
    return set(re.findall(r"\bTOOLSPAN_[A-Z_]+[A-Z]\b", page)) - {
        f"TOOLSPAN_{name.upper()}" for name in Settings.model_fields
    }


def unknown_panels(page: str) -> set[str]:
    """The panels that no dashboard has: in italics, beginning with a capital."""
    return set(re.findall(r"(?<!\*)\*([A-Z][^*]+?)\*(?!\*)", page)) - TITLES


def _unknown(command: str) -> str:
    """What of a command does not exist; nothing if it can be typed."""
    context = click.Context(cli)
    at: click.Command = cli
    for word in _words(command):
        if isinstance(at, click.Group):
            found = at.get_command(context, word)
            if found is None:
                return word
            at = found
        elif word.startswith("--") and word not in {option for p in at.params for option in p.opts}:
            return word
    return ""


def _words(command: str) -> Iterator[str]:
    # `pause --list`, and `dlq ls` as much as `dlq …`, which names the group.
    yield from (word for word in command.split() if word != "…")
