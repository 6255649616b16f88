"""Dead letters as lines of JSON, byte for byte."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from toolspan.operate.dead_letters import tool_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.model import LetterEntry


def exported(entry: LetterEntry) -> bytes:
    """Write *entry* as one JSON object, without the end of the line.

    `id` is its id, and `fields` all that lies under it, in order: a list of pairs of name and value. Either is a string
    where it is UTF-8, and otherwise an object with its bytes as `base64`. `original`, in the same form, is the call of
    an entry that was kept whole, which `fields` has in packed form. What a worker wrote says `tool`, `reason`,
    `fingerprint` and `at_ms` besides; what cannot be read says why as `unreadable`.
    """
    letter = entry.letter
    line: dict[str, Any] = {"id": entry.id}
    if letter is None:
        line["unreadable"] = entry.problem
    else:
        line |= {"tool": tool_of(letter), "reason": letter.reason}
        line |= {"fingerprint": letter.fingerprint, "at_ms": letter.at_ms}
    line["fields"] = exact_pairs(entry.fields)
    if entry.original is not None:
        line["original"] = exact_pairs(entry.original)
    # In ASCII: there are characters at which some readers of lines end one.
    return json.dumps(line, separators=(",", ":")).encode()


def exact_pairs(parts: Sequence[bytes]) -> list[tuple[Any, Any]]:
    """Give *parts*, names and values in turn, as pairs: strings where they are UTF-8, and otherwise `base64`."""
    return list(zip(map(_exact, parts[::2]), map(_exact, parts[1::2]), strict=True))


def _exact(part: bytes) -> str | dict[str, str]:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(part).decode()}
