"""Every route of the gateway with its answers and bodies, from its own OpenAPI description."""

from __future__ import annotations

import json
from typing import Any, get_args

from tools.pages.markdown import anchor, heading, pages_of, table
from toolspan.errors import ToolError
from toolspan.gateway.answers import STATUS
from toolspan.gateway.openapi import describe
from toolspan.gateway.outcomes import ERRORS
from toolspan.model import ErrorType

Json = dict[str, Any]

INTRO = f"""\
What `toolspan gateway` serves; `/openapi.json` is the same for machines. A `traceparent` that comes in is gone on
from, and `traceresponse` names the span of the call. `/v1/…` asks for a bearer token where
[`TOOLSPAN_TOKENS_FILE`](settings.md) is set. Every answer that is none of a worker's has the shape of
[ErrorResponse](#{anchor("ErrorResponse")})."""
ON_ERRORS = """\
`error.type` is a closed set; programs decide by it. What a worker answered is `200` with `Toolspan-Status: error`,
but for some of these:"""
HEAD = ("field", "type", "default", "meaning")


def page() -> str:
    """Make the page."""
    described = describe("")
    parts = [heading("HTTP", source="src/toolspan/gateway/openapi.py and schemas.py"), INTRO]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            parts += route(f"{method.upper()} {path}", operation)
    parts += ["## Failures", ON_ERRORS, table(("`error.type`", "HTTP", "in Python"), failures()), "## Bodies"]
    for name, schema in sorted(described["components"]["schemas"].items()):
        parts += [f"### {name}", schema.get("description", ""), table(HEAD, fields(schema))]
    return pages_of(*parts)


def route(title: str, operation: Json) -> list[str]:
    """One route: what it takes, and every answer."""
    parts = [f"## {title}", f"{operation['summary']}."]
    if "requestBody" in operation:
        parts.append(f"Takes {body(operation['requestBody']['content'])}.")
    rows = [
        (f"`{status}`", answer["description"], body(answer.get("content", {})))
        for status, answer in operation["responses"].items()
    ]
    parts.append(table(("status", "when", "body"), rows))
    contents = [content for answer in operation["responses"].values() for content in answer["content"].values()]
    return [*parts, *(f"{content['description']}." for content in contents if "description" in content)]


def body(content: Json) -> str:
    """A link to the body's shape."""
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    name = reference.rpartition("/")[2]
    return f"[{name}](#{anchor(name)})" if name else "JSON"


def fields(schema: Json) -> list[tuple[str, ...]]:
    """The fields of a body."""
    required = schema.get("required", [])
    return [
        (
            f"`{name}`",
            kind(field),
            "required" if name in required else f"`{json.dumps(field['default'])}`" if "default" in field else "",
            field.get("description", ""),
        )
        for name, field in schema["properties"].items()
    ]


def kind(field: Json) -> str:
    """Which JSON a field is, with its bounds."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "anyOf" in field:
        return " or ".join(kind(one) for one in field["anyOf"])
    if "enum" in field or "const" in field:
        return " or ".join(f"`{one}`" for one in field.get("enum", [field.get("const")]))
    told = str(field.get("type", "any JSON"))
    if told == "array":
        return f"array of {kind(field['items'])}"
    least, most = (field.get(f"{end}Length", field.get(f"{end}imum")) for end in ("min", "max"))
    unit = " characters" if told == "string" else ""
    if most is None:
        return told
    return f"{told}, {f'{least} to' if least is not None else 'at most'} {most}{unit}"


def failures() -> list[tuple[str, str, str]]:
    """How each kind of failure is told over HTTP and in Python."""
    return [
        (f"`{one}`", f"`{STATUS.get(one, 200)}`", f"`{ERRORS.get(one, ToolError).__name__}`")
        for one in get_args(ErrorType)
    ]
