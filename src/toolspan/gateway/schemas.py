"""The bodies of the HTTP interface."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from toolspan.codec import CONTROLS
from toolspan.model import DeliveryContract


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


ONE_LINE: Final[dict[str, Any]] = {"pattern": f"^[^{CONTROLS}]+$"}
"""For those who read the description; whoever sends the call says so itself."""


def _whole(number: Any) -> Any:
    """Take 5.0 for the 5 that it is, in JSON schema too: some languages know no other numbers."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


class CallRequest(_Body):
    """What is asked of a tool."""

    model_config = ConfigDict(populate_by_name=False)

    args: dict[str, Any] = Field(default_factory=dict, description="The tool's arguments, by name")
    timeout_ms: Annotated[int, BeforeValidator(_whole)] = Field(
        30_000, ge=1, le=3_600_000, description="How long somebody waits for the reply"
    )
    detach: bool = Field(default=False, description="Answer at once; the reply is fetched later")
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        json_schema_extra=ONE_LINE,
        description="Calls of one tool with the same key and arguments are one call, and get its one reply",
    )
    tool_call_id: str | None = Field(None, max_length=256, description="The model's own id for this call")
    meta: dict[str, Any] = Field(
        default_factory=dict,
        alias="_meta",
        description="As MCP sends it; its `traceparent`, `tracestate` and `baggage` count where no header says them",
    )


class ErrorBody(_Body):
    """Why there is no result."""

    type: str = Field(description="Which kind of failure; programs decide by it")
    message: str = Field(description="What happened, for people")
    retryable: bool = Field(description="Whether the same call, sent again, may succeed")
    detail: Any = Field(description="What else is known: whether the call may still run, or was accepted")


class CallResponse(_Body):
    """What a worker answered: *result* or *error*."""

    id: str
    entry_id: str
    status: Literal["ok", "error"]
    result: Any = None
    error: ErrorBody | None = None
    attempt: int = Field(description="How many attempts were made")
    timings: dict[Literal["queue", "admission", "execute", "settle"], float] = Field(
        description="Milliseconds in each phase that happened"
    )
    trace_id: str | None = Field(description="The trace in which the reply was made")


class Accepted(_Body):
    """A call that waits or runs."""

    id: str
    entry_id: str


class Cancelling(_Body):
    """A call that is given up, if it is still open."""

    id: str


class ProgressEvent(_Body):
    """What a running tool tells of its progress."""

    id: str
    entry_id: str
    status: Literal["progress"]
    result: Any
    attempt: int = Field(description="Which attempt told it")
    seq: int = Field(description="Counts from 1 in each attempt; a gap is what was left out")


class ErrorResponse(_Body):
    """Every answer that is none of the others."""

    id: str | None = None
    status: Literal["error"]
    error: ErrorBody


class ToolDescription(_Body):
    """A tool that a live worker serves."""

    name: str
    description: str
    parameters: dict[str, Any] = Field(alias="schema", description="JSON schema of the arguments")
    delivery: DeliveryContract
    timeout_seconds: float | None
    paused: bool = Field(description="Whether its calls wait until an operator resumes it")


class ToolList(_Body):
    """What is served now."""

    tools: list[ToolDescription]


class Health(_Body):
    """How this process is."""

    status: Literal["live", "ready"]
