"""What lies in Redis: names, fields and limits from the code; what they mean in a few words beside them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import toolspan.store
from tools.pages import protocol_words as words
from tools.pages.markdown import Row, heading, pages_of, table
from toolspan.codec import dead_letters, replies
from toolspan.codec.fields import CALL_FIELDS, REQUIRED, TRACE_FIELDS, VERSION
from toolspan.codec.limits import MAX_FIELDS, MAX_ID_CHARS, MAX_KEY_CHARS, MAX_STACK_BYTES, MAX_TRACE_BYTES
from toolspan.keys import Keys
from toolspan.model import DeadLetterReason, ErrorType, Failed, Succeeded, Timings
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCRIPTS = Path(inspect.getfile(toolspan.store)).parent / "lua"
OUR_NAME = "<p>"


def page() -> str:
    """Make the page."""
    return pages_of(
        heading("Protocol", source="src/toolspan/keys.py, codec/ and store/lua/"),
        words.INTRO.format(version=VERSION),
        "## Keys",
        words.ON_KEYS,
        table(("name", "holds"), keys()),
        "## A tool call",
        words.ON_CALLS,
        table(("field", "must", "meaning"), call_fields()),
        words.PAYLOAD,
        "## Limits",
        table(("what", "limit", "set by"), limits()),
        "## A reply",
        words.ON_REPLIES,
        table(("field", "meaning"), told(reply_fields(), words.REPLY)),
        "`error.type` is one of:",
        table(("`error.type`", "meaning"), told(get_args(ErrorType), words.ERRORS)),
        "`timings` are milliseconds; a phase that did not happen is absent:",
        table(("phase", "from … to"), told(Timings.__annotations__, words.PHASES)),
        "## A dead letter",
        words.ON_DEAD_LETTERS,
        table(("field", "meaning"), told(dead_letter_fields(), words.DEAD_LETTER)),
        table(("`dlq.reason`", "when"), told(get_args(DeadLetterReason), words.REASONS)),
        "## Steps",
        words.ON_STEPS,
        table(("script", "does"), scripts()),
    )


def told(names: Iterable[str], meanings: Mapping[str, str]) -> list[Row]:
    """What each name means; a name without a meaning, or the other way round, is an error."""
    given = list(names)
    if set(given) != meanings.keys():
        message = f"say in tools/pages/protocol_words.py what these mean: {set(given) ^ meanings.keys()}"
        raise SystemExit(message)
    return [(f"`{name}`", meanings[name]) for name in given]


def keys() -> list[Row]:
    """Every key, as `Keys` names it, and what its docstring says."""
    made = Keys(OUR_NAME, "<s>")
    rows: list[Row] = []
    for name, value in vars(Keys).items():
        if name.startswith("_") or name.endswith("_prefix"):
            continue
        if isinstance(value, property):
            rows.append((f"`{getattr(made, name)}`", docstring(value)))
        elif inspect.isfunction(value):
            [parameter] = [one for one in inspect.signature(value).parameters if one != "self"]
            stands_in = f"<{parameter.replace('_', ' ')}>"
            rows.append((f"`{getattr(made, name)(stands_in)}`", docstring(value)))
    return rows


def docstring(given: Any) -> str:
    """What it says of itself, on one line."""
    return " ".join(inspect.cleandoc(given.__doc__ or "").split())


def call_fields() -> list[Row]:
    """The fields of a call."""
    names = [*CALL_FIELDS, *TRACE_FIELDS, "meta.*"]
    return [
        (name, "yes" if name.strip("`").encode() in REQUIRED else "no", meaning)
        for name, meaning in told(names, words.CALL)
    ]


def reply_fields() -> list[str]:
    """The fields of replies, final ones and those of progress, as they are written."""
    common: dict[str, Any] = {"call_id": "", "entry_id": "", "attempt": 1, "consumer": "", "traceparent": "00"}
    outcomes = (Succeeded(b"0"), Failed("tool_error", ""))
    final = [replies.encode_reply(outcome=outcome, timings=Timings(), **common) for outcome in outcomes]
    progress = replies.encode_progress(value=b"0", seq=1, **common)
    return list(
        dict.fromkeys(
            str(name) for fields in (*(form.filled(own) for form, own in final), progress) for name in fields[::2]
        )
    )


def dead_letter_fields() -> list[str]:
    """The fields about a dead letter: what workers write, and what the script adds."""
    written = dead_letters.dead_letter_fields(
        entry_id="",
        reason="",
        tool="",
        failure=Failed("tool_error", "", stack="stack"),
        consumer="",
        traceparent="00",
        reply=b"",
    )
    return [*(str(name) for name in written[::2]), *words.ADDED_BY_THE_SCRIPT]


def limits() -> list[Row]:
    """What an entry may measure."""
    fields = Settings.model_fields
    by_setting = [
        (fields[name].description or "", f"`{fields[name].default}`", f"`TOOLSPAN_{name.upper()}`")
        for name in ("max_args_bytes", "max_reply_bytes", "max_nesting", "reply_maxlen", "reply_ttl_seconds")
    ]
    fixed = {
        "Characters of an `id`": MAX_ID_CHARS,
        "Characters of a `reply_to`": MAX_KEY_CHARS,
        "Bytes of each trace field; what is longer is ignored": MAX_TRACE_BYTES,
        "Fields of a call": MAX_FIELDS,
        "Bytes of `dlq.stack`": MAX_STACK_BYTES,
    }
    return [*by_setting, *((what, f"`{limit}`", "") for what, limit in fixed.items())]


def scripts() -> list[Row]:
    """Every script and the first sentence of its header."""
    return [(f"`{path.stem}`", first_sentence(path)) for path in sorted(SCRIPTS.glob("*.lua"))]


def first_sentence(path: Path) -> str:
    """What a script says it does."""
    lines = []
    for line in path.read_text().splitlines():
        words_of_it = line.removeprefix("--").strip()
        if not line.startswith("--") or not words_of_it:
            break
        lines.append(words_of_it)
    return " ".join(lines)
