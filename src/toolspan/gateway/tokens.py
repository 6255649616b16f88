"""Who may call which tool: bearer tokens, from a file that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from toolspan.codec import loads
from toolspan.errors import SettingsError, Unauthorised

if TYPE_CHECKING:
    from pathlib import Path

    from toolspan.telemetry.probe import Probe

_LEVELS: Final = 3
_Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*-]{1,128}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@:/-]{0,127}$")
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    tools: list[_Pattern]


_FILE: Final = TypeAdapter(list[_Entry])


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whom a token names. *tools* are the names that he may use, as one expression."""

    name: str
    tools: re.Pattern[str]

    def may_call(self, tool: str) -> bool:
        """Whether he may call *tool*."""
        return self.tools.fullmatch(tool) is not None


class Tokens:
    """Knows the holders of tokens, never the tokens: the file has their hashes.

    The file is looked at with each request. A new one that cannot be used is told of once, and changes nothing.

    Raises:
        SettingsError: if it cannot be used at the start.
    """

    def __init__(self, path: Path, probe: Probe) -> None:
        self._path = path
        self._probe = probe
        self._version = self._current_version()
        self._known = self._read()

    def holder(self, authorization: str | None) -> Principal:
        """Give whom the header `Authorization` names.

        Raises:
            Unauthorised: if it names nobody.
        """
        self._follow()
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            message = "a token is needed: Authorization: Bearer <token>"
            raise Unauthorised(message, known=False)
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        found: Principal | None = None
        # All are compared, whichever it is: how long it takes tells nothing.
        for expected, principal in self._known:
            if hmac.compare_digest(expected, digest):
                found = principal
        if found is None:
            message = "the token is not known here"
            raise Unauthorised(message, known=False)
        return found

    def _follow(self) -> None:
        version = self._current_version()
        if version == self._version:
            return
        self._version = version
        try:
            self._known = self._read()
        except SettingsError as exc:
            self._probe.tokens_refused(str(exc))
        else:
            self._probe.tokens_read(len(self._known))

    def _current_version(self) -> tuple[int, int, int] | None:
        """Tell one state of the file from the next; None while there is none."""
        try:
            about = self._path.stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_size, about.st_ino

    def _read(self) -> list[tuple[bytes, Principal]]:
        # What is wrong is told without what stands there: somebody may have put the token itself into it.
        try:
            entries = _FILE.validate_python(_content(self._path))
        except ValidationError as exc:
            told = "; ".join(f"{_place(e['loc'])}{e['msg']}" for e in exc.errors(include_input=False))
            raise _refused(self._path, told) from None
        hashes = [entry.sha256.lower() for entry in entries]
        if len(set(hashes)) < len(hashes):
            raise _refused(self._path, "two entries have the same sha256")
        return [(bytes.fromhex(entry.sha256), Principal(entry.name, _expression(entry.tools))) for entry in entries]


def _content(path: Path) -> Any:
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror}") from None
    try:
        return loads(raw, nesting=_LEVELS)
    except ValueError:
        raise _refused(path, "is not JSON") from None


def _refused(path: Path, why: str) -> SettingsError:
    return SettingsError(f"TOOLSPAN_TOKENS_FILE, {path}: {why}")


def _place(location: tuple[int | str, ...]) -> str:
    if not location:
        return ""
    index, *names = location
    return f"entry {int(index) + 1}{''.join(f', {name}' for name in names[:1])}: "


def _expression(patterns: list[str]) -> re.Pattern[str]:
    """Make one expression of names in which only `*` is special; of none, one that nothing matches."""
    parts = (".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
    return re.compile("|".join(parts) or r"(?!)")
