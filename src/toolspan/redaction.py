"""Takes secrets out of what people get to read: messages, stacks, lines of the log."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from toolspan.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN: Final = "***"
UNREADABLE: Final = "[hidden: the redactor failed]"

_LONGEST: Final = 65_536
"""Characters of one text that are looked through; what comes after them is cut off."""

_WORDS: Final = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|signature"
)
_PRIVATE_KEY: Final = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_NAME: Final = rf"""(?:{_WORDS})[\w-]{{0,16}}\\?[\"']?"""
# Also within a text that was itself quoted; and one whose end was cut off.
_QUOTED: Final = "|".join(
    rf"b?{q}(?:[^{q}\\]|\\.)*(?:{q}|\Z)|b?\\{q}(?:[^{q}\\]|\\(?!{q}).)*(?:\\{q}|\Z)" for q in ("'", '"')
)

_NAMED: Final = re.compile(_WORDS, re.IGNORECASE)

# Each bounds what it repeats, so that no text makes it slow.
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | flags), replacement)
    for pattern, replacement, flags in (
        # A block without its end is hidden up to where the text ends.
        (rf"-----BEGIN {_PRIVATE_KEY}.*?(?:-----END {_PRIVATE_KEY}|\Z)", HIDDEN, re.DOTALL),
        # user:password@ of a URL, up to the last @ of the word.
        (r"(://[^\s:/@\"']{0,256}:)[^\s\"'<>]{1,1024}@", rf"\1{HIDDEN}@", 0),
        (
            r"((?:proxy-)?authorization\\?[\"']?\s{0,8}[:=,]\s{0,8}(?:b?\\?[\"'])?)[^\r\n\"'\\]{1,8192}",
            rf"\1{HIDDEN}",
            0,
        ),
        (r"\b(bearer\s{1,8})[A-Za-z0-9._~+/=-]{6,8192}", rf"\1{HIDDEN}", 0),
        (rf"((?<![\w-])--?[\w-]{{0,64}}(?:{_WORDS})[\w-]{{0,16}}[ =])[^\s\"',;]{{1,8192}}", rf"\1{HIDDEN}", 0),
        (rf"({_NAME}\s{{0,8}}(?:[:=]|=>|:=)\s{{0,8}})(?:{_QUOTED}|[^\s,;&\"')\]}}]{{1,8192}})", rf"\1{HIDDEN}", 0),
        (r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", HIDDEN, 0),
        (r"\beyJ[\w-]{4,8192}\.[\w-]{4,8192}(?:\.[\w-]{0,8192})?", HIDDEN, 0),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|sk[-_]|AIza)[\w-]{16,8192}", HIDDEN, 0),
    )
)

# In small letters, one of these is in whatever any of them matches: most texts hold none, and are looked through once.
_TELLTALE: Final = re.compile(
    rf"{_WORDS}|private key|://|authorization|bearer|akia|asia|abia|acca|eyj|gh[pousr]_|github_pat_|glpat-"
    r"|xox[abeoprs]-|sk[-_]|aiza"
)


def without_secrets(text: str) -> str:
    """Give *text* without what looks like a secret: keys, tokens, passwords, and the like."""
    if len(text) > _LONGEST:
        # The last word may be a part of a secret that would be known as a whole only.
        text = f"{text[:_LONGEST].rpartition(' ')[0]} …"
    # Beyond ASCII there are letters that match a small one, and have another.
    if text.isascii() and _TELLTALE.search(text.lower()) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class Redactor:
    """Takes secrets out of texts: what we know to look like one, and then whatever *more* takes out.

    What *more* fails on is hidden as a whole: that leaks nothing, and harms no call. *failed* hears of it, once.
    """

    def __init__(self, more: Callable[[str], str] | None = None) -> None:
        self._more = more
        self.failed: Callable[[str], None] = lambda _: None
        self._has_failed = False

    @classmethod
    def named(cls, path: str | None) -> Redactor:
        """Make one that goes on with the function at *path*, `module:function`; without one, if that is None.

        Raises:
            SettingsError: if it cannot be imported, or is no function.
        """
        if path is None:
            return cls()
        module, _, name = path.partition(":")
        try:
            more: Any = getattr(import_module(module), name)
        except Exception as exc:  # noqa: BLE001 - what a module of somebody else's does when it is imported
            message = f"TOOLSPAN_REDACT: {path} cannot be imported: {type(exc).__name__}"
            raise SettingsError(message) from None
        if not callable(more):
            message = f"TOOLSPAN_REDACT: {path} is no function"
            raise SettingsError(message)
        return cls(more)

    def __call__(self, text: str) -> str:
        """Give *text* as people may read it."""
        text = without_secrets(text)
        if self._more is None:
            return text
        try:
            redacted = self._more(text)
        except Exception as exc:  # noqa: BLE001
            return self._hidden(type(exc).__name__)
        return redacted if isinstance(redacted, str) else self._hidden(f"it gave {type(redacted).__name__}, not str")

    def within(self, value: Any) -> Any:
        """Give *value* with every text in it, also in lists and dictionaries, as people may read it."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {name: HIDDEN if _is_secret(name, part) else self.within(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.within(part) for part in value]
        return value

    def _hidden(self, why: str) -> str:
        if not self._has_failed:
            self._has_failed = True
            self.failed(why)
        return UNREADABLE


def _is_secret(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, str) and _NAMED.search(name) is not None
