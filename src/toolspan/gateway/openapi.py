"""The OpenAPI description of the HTTP interface, made from the bodies that it speaks of."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from toolspan.codec import MAX_ID_CHARS, TOOL_NAME
from toolspan.gateway.schemas import (
    ONE_LINE,
    Accepted,
    CallRequest,
    CallResponse,
    Cancelling,
    ErrorResponse,
    Health,
    ProgressEvent,
    ToolList,
)

Answers = dict[int, tuple[str, type[BaseModel]]]

_BROKEN: Final[Answers] = {500: ("A bug of ours; the gateway's log says which", ErrorResponse)}
_NO_REDIS: Final[Answers] = {503: ("Redis is unavailable; `detail` says what became of the call", ErrorResponse)}
_NOBODY: Final[Answers] = {401: ("There is no token, or none that the gateway knows", ErrorResponse)}
_LARGE: Final[Answers] = {413: ("The call, or the head of the request, is over a limit", ErrorResponse)}
_BEARER: Final = "bearer"
_SCHEME: Final = {"type": "http", "scheme": "bearer"}
_HEADERS: Final = {
    "Toolspan-Status": {"description": "How the call ended", "schema": {"enum": ["ok", "error"]}},
    "traceresponse": {"description": "The span of the call, as W3C has it", "schema": {"type": "string"}},
}
_IN_PATHS: Final = {
    "tool": {"type": "string", "pattern": f"^{TOOL_NAME}$"},
    "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS, **ONE_LINE},
}
_ANSWERED: Final = (CallResponse, ErrorResponse)


def describe(version: str, *, protected: bool = False) -> dict[str, Any]:
    """Describe every route and every answer it may give; *protected*: those under /v1 ask for a token."""
    answers = (CallResponse, Accepted, Cancelling, ProgressEvent, ErrorResponse, ToolList, Health)
    _, schema = models_json_schema(
        [(CallRequest, "validation"), *((model, "serialization") for model in answers)],
        ref_template="#/components/schemas/{model}",
    )
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Toolspan gateway", "version": version},
        "paths": {
            "/v1/tools/{tool}/calls": {"post": _call()},
            "/v1/calls/{id}": {"get": _reply(), "delete": _cancel()},
            "/v1/tools": {"get": _tools()},
            "/livez": {"get": _live()},
            "/readyz": {"get": _ready()},
            "/openapi.json": {"get": _openapi()},
        },
        "components": {"schemas": schema["$defs"], "securitySchemes": {_BEARER: _SCHEME}},
    }
    for path, operations in described["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{_BEARER: []}] if protected else [{}]
    return described


def _call() -> dict[str, Any]:
    operation = _operation(
        "call",
        "Run a tool",
        {
            200: ("What a worker answered", CallResponse),
            202: ("A detached call was accepted", Accepted),
            400: ("The call cannot be sent, or its arguments do not fit the tool", ErrorResponse),
            404: ("No live worker serves the tool", ErrorResponse),
            403: ("The token is not for this tool", ErrorResponse),
            408: ("The body did not come in time", ErrorResponse),
            409: ("The idempotency key stands for a call with other arguments", ErrorResponse),
            429: ("Too many calls wait already; Retry-After says when to try again", ErrorResponse),
            504: ("No reply in time; `detail` says whether the call may still run", ErrorResponse),
            **_NOBODY,
            **_LARGE,
            **_NO_REDIS,
        },
        parameter="tool",
    )
    events = {
        "schema": {"type": "string"},
        "description": "With `Accept: text/event-stream`: events `progress`, whose data is a ProgressEvent, and one "
        "`reply`, whose data is the body of the plain answer. Hanging up cancels the call",
    }
    operation["responses"]["200"]["content"]["text/event-stream"] = events
    operation["requestBody"] = {"required": False, "content": _json(CallRequest)}
    return operation


def _reply() -> dict[str, Any]:
    answers: Answers = {
        200: ("What a worker answered", CallResponse),
        202: ("There is no reply yet", Accepted),
        404: ("This gateway remembers no such call", ErrorResponse),
        **_NOBODY,
        **_LARGE,
    }
    return _operation("reply", "The reply to a detached call", answers, parameter="id")


def _cancel() -> dict[str, Any]:
    answers: Answers = {
        202: ("It is given up wherever it is, unless it has ended", Cancelling),
        400: ("This is no call id", ErrorResponse),
        **_NOBODY,
        **_LARGE,
        **_NO_REDIS,
    }
    return _operation("cancel", "Cancel a call", answers, parameter="id")


def _tools() -> dict[str, Any]:
    answers: Answers = {200: ("The tools that the caller may call", ToolList), **_NOBODY, **_LARGE, **_NO_REDIS}
    return _operation("tools", "The tools that are served now", answers)


def _live() -> dict[str, Any]:
    return _operation("live", "Whether the process runs", {200: ("It does", Health)})


def _ready() -> dict[str, Any]:
    return _operation("ready", "Whether calls can be taken", {200: ("They can", Health), **_NO_REDIS})


def _openapi() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    operation = _operation("openapi", "This description", {})
    operation["responses"]["200"] = {"description": "This description", "content": content}
    return operation


def _operation(name: str, summary: str, answers: Answers, *, parameter: str | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {
            str(status): _answer(meaning, model) for status, (meaning, model) in sorted({**answers, **_BROKEN}.items())
        },
    }
    if parameter is not None:
        schema = _IN_PATHS[parameter]
        operation["parameters"] = [{"name": parameter, "in": "path", "required": True, "schema": schema}]
    return operation


def _answer(meaning: str, model: type[BaseModel]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": meaning, "content": _json(model)}
    if model in _ANSWERED:
        answer["headers"] = _HEADERS
    return answer


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
