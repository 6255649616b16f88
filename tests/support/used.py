"""What commands are really used, on which kinds of keys: by scripts as written, and by clients as they send."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from redis.connection import HiredisRespSerializer

from toolspan.store import wires
from toolspan.store.scripts import compose

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_CALL: Final = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?(?:, ([A-Za-z_]+(?:\[\d+\])?))?")
_PIECE: Final = re.compile(r"^-- include (\w+)$", re.MULTILINE)
_KEY: Final = re.compile(r"^-- KEYS\[(\d+)(?:\.\.)?\] (\w+)", re.MULTILINE)

# What scripts call a key, where that is not its kind.
_KINDS: Final = {
    "dead_letters": ("dlq",),
    "audits": ("audit",),
    "replies": ("reply",),
    "record": ("once",),
    "registrations": ("worker",),
    "others": ("reply", "once"),
    "orders": ("control",),
    "bucket": ("rate",),
    "cancels": ("cancel",),
}
_SEARCHED: Final = ("stream", "dlq", "events", "audit")
# And where a name stands for another key in each file.
_LOCAL: Final = {
    ("settle", "key"): ("reply",),
    ("history", "key"): ("attempts",),
    ("once", "key"): ("once",),
    ("audit", "key"): ("audit",),
    ("resign", "KEYS[1]"): ("monitor",),
    ("progress", "key"): ("reply",),
    ("keep", "unpack"): ("cancel",),
    ("given_up", "unpack"): ("cancel",),
    ("control", "key"): ("control",),
    ("pause", "key"): ("control",),
    ("resume", "key"): ("control",),
    ("drain", "key"): ("control",),
    # What it looks through is whatever it is told.
    ("find", "stream"): _SEARCHED,
}
# What stands in a piece that the script includes, in a function that it does not call.
_UNUSED: Final = {"append_if": {("del", "once")}}
_SNAPSHOT: Final = {
    "TYPE": ("stream", "workers", "worker", "dlq", "parked", "control"),
    "XRANGE": ("stream", "dlq"),
    "HGET": ("worker",),
}
_WITHOUT_KEYS: Final = {"TIME", "PUBLISH"}
_WITH_PARTS: Final = {"XINFO", "XGROUP"}

Pair = tuple[str, str]


def in_script(name: str, folder: Path) -> set[Pair]:
    """Give command and kind of key of each call in a script and in the pieces that it includes; fail on what is new."""
    text = (folder / f"{name}.lua").read_text()
    found = _calls(name, text)
    for piece in _PIECE.findall(text):
        found |= _calls(piece, (folder / "lib" / f"{piece}.lua").read_text())
    return found - _UNUSED.get(name, set())


def _calls(name: str, text: str) -> set[Pair]:
    found: set[Pair] = set()
    assert text.count("redis.call(") + text.count("redis.pcall(") == len(_CALL.findall(text)), name
    for command, part, key in _CALL.findall(text):
        if command in _WITHOUT_KEYS:
            continue
        whole = f"{command}|{part}" if command in _WITH_PARTS else command
        kinds = _SNAPSHOT[command] if (name, key) == ("snapshot", "key") else _LOCAL.get((name, key), _kinds(key))
        found |= {(whole.lower(), kind) for kind in kinds}
    return found


def keys_of(name: str) -> set[str]:
    """Give the kinds of the keys that a script is handed."""
    return {kind for _, key in _KEY.findall(compose(name)) for kind in _LOCAL.get((name, key), _kinds(key))}


def _kinds(key: str) -> tuple[str, ...]:
    return _KINDS.get(key, (key,))


class Sent:
    """Listens to what our connections send, by user."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, prefix: str, folder: Path) -> None:
        self.pairs: dict[str, set[Pair]] = {}
        self.free: dict[str, set[str]] = {}
        self.scripts: dict[str, set[str]] = {}
        self.heard: dict[str, set[Pair]] = {}
        """How somebody listens, and to which kind of channels."""
        self._prefix = f"{prefix}:"
        names = [path.stem for path in folder.glob("*.lua")]
        self._names = {hashlib.sha1(compose(n).encode(), usedforsecurity=False).hexdigest(): n for n in names}
        theirs, blocking = wires.PlainConnection.pack_command, HiredisRespSerializer.pack

        def pack(connection: Any, *args: Any) -> Any:
            self._note(connection.username, args)
            return theirs(connection, *args)

        def pack_blocking(packer: Any, *args: Any) -> Any:
            # A heartbeat's: nobody else does without asyncio.
            self._note("toolspan-worker", args)
            return blocking(packer, *args)

        monkeypatch.setattr(wires.PlainConnection, "pack_command", pack)
        monkeypatch.setattr(HiredisRespSerializer, "pack", pack_blocking)

    def _note(self, user: str, args: tuple[Any, ...]) -> None:
        words = [arg.decode() if isinstance(arg, bytes) else str(arg) for arg in args]
        command = words[0].lower().replace(" ", "|")
        if command == "evalsha":
            self.scripts.setdefault(user, set()).add(self._names[words[1]])
            return
        if command == "acl|dryrun":
            # What is asked about is not run.
            words = words[:1]
        # The name of a group looks like a key, and has but one colon.
        keys = [word for word in words[1:] if word.startswith(self._prefix) and word.count(":") > 1]
        keys += [word for word in words[1:2] if word == f"{self._prefix}streams"]
        if command in {"subscribe", "psubscribe"}:
            self.heard.setdefault(user, set()).update((command, key.split(":")[1]) for key in keys)
        elif keys and command != "unsubscribe":
            self.pairs.setdefault(user, set()).add((command, keys[0].split(":")[1]))
        elif command not in {"auth", "unsubscribe"}:
            self.free.setdefault(user, set()).add(command)
