"""The bodies of the HTTP interface, and its OpenAPI description made from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema


class CallRequest(BaseModel):
    """What is asked of a tool."""

    model_config = ConfigDict(extra="forbid", strict=True)

    args: dict[str, Any] = Field(default_factory=dict, description="The tool's arguments, by name")
    timeout_ms: int = Field(30_000, ge=1, le=3_600_000, description="How long the caller waits")
    detach: bool = Field(default=False, description="Answer at once; the reply is fetched later")
    tool_call_id: str | None = Field(None, max_length=256, description="The model's own id for this call")


class ErrorBody(BaseModel):
    """Why there is no result."""

    type: str
    message: str
    retryable: bool = Field(description="Whether the same call, sent again, may succeed")
    detail: Any = None


class CallResponse(BaseModel):
    """What a worker answered."""

    id: str
    entry_id: str
    status: Literal["ok", "error"]
    result: Any = None
    error: ErrorBody | None = None
    attempt: int = Field(description="How many attempts were made")
    timings: dict[str, float] = Field(description="Milliseconds in each phase that happened")
    trace_id: str | None


class Accepted(BaseModel):
    """A call that runs, or will."""

    id: str
    entry_id: str


class ErrorResponse(BaseModel):
    """Every answer that is neither of these."""

    id: str | None = None
    status: Literal["error"] = "error"
    error: ErrorBody


class ToolDescription(BaseModel):
    """A tool that a live worker serves."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    description: str
    parameters: dict[str, Any] = Field(alias="schema", description="JSON schema of the arguments")
    delivery: str
    timeout_seconds: float | None


class ToolList(BaseModel):
    """What is served now."""

    tools: list[ToolDescription]


class Health(BaseModel):
    """How this process is."""

    status: str


def openapi(version: str) -> dict[str, Any]:
    """Describe the HTTP interface."""
    models = (CallRequest, CallResponse, Accepted, ErrorResponse, ToolList, Health)
    _, schema = models_json_schema(
        [(model, "serialization" if model is not CallRequest else "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    call_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    tool = {"name": "tool", "in": "path", "required": True, "schema": {"type": "string"}}
    answers = {
        **_answer("200", "What a worker answered", "CallResponse"),
        **_answer("202", "The call was accepted", "Accepted"),
    }
    refusals = {
        "400": "The call cannot be sent, or its arguments do not fit the tool",
        "404": "No live worker serves the tool",
        "413": "The call is over a limit",
        "503": "Redis is unavailable",
        "504": "No reply in time",
    }
    for status, meaning in refusals.items():
        answers |= _answer(status, meaning, "ErrorResponse")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Toolspan gateway", "version": version},
        "paths": {
            "/v1/tools/{tool}/calls": {
                "post": {
                    "operationId": "call",
                    "summary": "Run a tool",
                    "parameters": [tool],
                    "requestBody": {"required": True, "content": _json("CallRequest")},
                    "responses": answers,
                }
            },
            "/v1/calls/{id}": {
                "get": {
                    "operationId": "reply",
                    "summary": "The reply to a detached call",
                    "parameters": [call_id],
                    "responses": {
                        **_answer("200", "What a worker answered", "CallResponse"),
                        **_answer("202", "There is no reply yet", "Accepted"),
                        **_answer("404", "This gateway does not know the call", "ErrorResponse"),
                    },
                }
            },
            "/v1/tools": {
                "get": {
                    "operationId": "tools",
                    "summary": "The tools that are served now",
                    "responses": {
                        **_answer("200", "The tools", "ToolList"),
                        **_answer("503", "Redis is unavailable", "ErrorResponse"),
                    },
                }
            },
            "/livez": {
                "get": {
                    "operationId": "live",
                    "summary": "Whether the process runs",
                    "responses": _answer("200", "It does", "Health"),
                }
            },
            "/readyz": {
                "get": {
                    "operationId": "ready",
                    "summary": "Whether calls can be taken",
                    "responses": {
                        **_answer("200", "They can", "Health"),
                        **_answer("503", "Redis is unavailable", "Health"),
                    },
                }
            },
        },
        "components": {"schemas": schema["$defs"]},
    }


def _answer(status: str, meaning: str, model: str) -> dict[str, Any]:
    return {status: {"description": meaning, "content": _json(model)}}


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}
