"""What `import toolspan` gives, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import toolspan
import toolspan.testing
from tools.pages.markdown import heading, pages_of
from toolspan.gateway import options

INTRO = "Everything of `toolspan` and `toolspan.testing` that is yours to use. What is not here may change any day."
ERRORS = "One tree: catch `ToolspanError` for all of it, `CallError` for calls that did not succeed."

CALLING = ("call", "stream", "send", "cancel", "tools")
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "Tools": {
        "tool": (),
        "Retry": (),
        "worker_lifespan": (),
        "current_call": (),
        "CurrentCall": (
            *("id", "deadline", "remaining", "idempotency_key", "principal", "baggage", "cancelled"),
            *("progress", "progress_sync"),
        ),
    },
    "Calls": {
        "ToolClient": CALLING,
        "SyncToolClient": CALLING,
        "CallStream": ("reply",),
        "SyncCallStream": ("reply",),
        "Reply": ("trace_id",),
        "Progress": (),
        "Timings": (),
        "ToolInfo": (),
    },
    "Programs with their own process_fn": {"ToolExecConsumer": ("start", "stop")},
}
"""What is shown of each, in this order; the rest of a class is for front doors built on it."""

ELSEWHERE = {"Settings"}
"""Has a page of its own."""

TESTING: dict[str, tuple[str, ...]] = {
    "EmbeddedServer": ("url", "start", "kill", "signal", "stop"),
    "running_worker": (),
    "Recorder": ("spans", "events", "metrics", "points", "total"),
}

KEYWORD_ONLY, POSITIONAL_ONLY = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY
_WIDE = 90


def page() -> str:
    """Make the page."""
    parts = [heading("Python", source="the docstrings of what it names"), INTRO]
    for title, shown in GROUPS.items():
        parts.append(f"## {title}")
        for name, attributes in shown.items():
            parts += described(f"toolspan.{name}", getattr(toolspan, name), attributes)
    parts.append("## Tests")
    for name, attributes in TESTING.items():
        parts += described(f"toolspan.testing.{name}", getattr(toolspan.testing, name), attributes)
    parts += ["## Errors", ERRORS]
    for name in errors():
        parts += [f"### toolspan.{name}", docstring(getattr(toolspan, name))]
    return pages_of(*parts)


def errors() -> list[str]:
    """What is raised: all that has no place above, or somebody forgot to give it one."""
    told = {name for shown in GROUPS.values() for name in shown} | ELSEWHERE
    raised = [name for name in toolspan.__all__ if name not in told]
    homeless = [name for name in raised if not issubclass(getattr(toolspan, name), toolspan.ToolspanError)]
    homeless += set(toolspan.testing.__all__) ^ TESTING.keys()
    if homeless:
        message = f"say in tools/pages/python.py where these belong: {', '.join(homeless)}"
        raise SystemExit(message)
    return raised


def described(name: str, given: Any, attributes: tuple[str, ...]) -> list[str]:
    """One name, and what is shown of it."""
    parts = [f"### {name}"]
    if name != "toolspan.CurrentCall" and not name.endswith("CallStream"):
        parts.append(signature(name.rpartition(".")[2], given))
    parts.append(docstring(given))
    for attribute in attributes:
        value = inspect.getattr_static(given, attribute)
        if isinstance(value, property):
            parts.append(f"**`.{attribute}`** {docstring(value)}")
        else:
            parts += [signature(f".{attribute}", value), docstring(value)]
    return parts


def signature(name: str, given: Any) -> str:
    """How it is called, as it is written."""
    taken = inspect.signature(given)
    whole_list = [one for p in taken.parameters.values() if p.name != "self" for one in unpacked(p)]
    parameters = [written(p) for p in whole_list]
    kinds = [p.kind for p in whole_list]
    if KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(KEYWORD_ONLY), "*")
    if POSITIONAL_ONLY in kinds:
        parameters.insert(kinds.count(POSITIONAL_ONLY), "/")
    given_back = "" if inspect.isclass(given) else f" -> {taken.return_annotation}"
    whole = f"{name}({', '.join(parameters)}){given_back}"
    if len(whole) > _WIDE:
        whole = "".join((f"{name}(\n", *(f"    {one},\n" for one in parameters), f"){given_back}"))
    prefix = "await " if inspect.iscoroutinefunction(given) else ""
    return f"```python\n{prefix}{whole}\n```"


def unpacked(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """A parameter; for one that stands for several options, each of these."""
    found = re.fullmatch(r"Unpack\[(\w+)\]", str(parameter.annotation))
    if found is None:
        return [parameter]
    known = getattr(options, found[1]).__annotations__
    return [
        inspect.Parameter(name, KEYWORD_ONLY, default=None, annotation=one.__forward_arg__)
        for name, one in known.items()
    ]


def written(parameter: inspect.Parameter) -> str:
    """A parameter with its type and its default."""
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def docstring(given: Any) -> str:
    """What it says of itself; what it raises as a list."""
    told, _, raises = inspect.cleandoc(given.__doc__ or "").partition("\nRaises:\n")
    found = re.findall(r"^    ([\w, ]+): (.+)$", raises, re.MULTILINE)
    if not found:
        return told.strip()
    listed = "\n".join(f"- `{name.replace(', ', '`, `')}` {when}" for name, when in found)
    return f"{told.strip()}\n\nRaises:\n\n{listed}"
