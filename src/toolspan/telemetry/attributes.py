"""The name of every span, metric and log attribute. Semantic conventions come first; what they lack is `toolspan.*`."""

from __future__ import annotations

from typing import Final

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/messaging/
SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
DESTINATION_TEMPLATE: Final = "messaging.destination.template"
DESTINATION_TEMPORARY: Final = "messaging.destination.temporary"
DESTINATIONS: Final = (DESTINATION, DESTINATION_TEMPLATE)
"""Where a message goes, on metrics: either. Reply streams are counted by what their names have in common."""
GROUP: Final = "messaging.consumer.group.name"
CLIENT_ID: Final = "messaging.client.id"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
BODY_SIZE: Final = "messaging.message.body.size"
BATCH_COUNT: Final = "messaging.batch.message_count"

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/ and …/server/, …/exception/
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

ATTEMPT: Final = "toolspan.attempt"
DELIVERY: Final = "toolspan.delivery"
OUTCOME: Final = "toolspan.outcome"
REASON: Final = "toolspan.reason"
PHASE: Final = "toolspan.phase"
OWNER: Final = "toolspan.owner"
ROLE: Final = "toolspan.role"
STATE: Final = "toolspan.state"
STREAM: Final = "toolspan.stream"

PHASES: Final = ("queue", "admission", "execute", "settle")
"""What an attempt's time is made of."""

PHASES_ON_SPANS: Final = tuple(f"{PHASE}.{name}" for name in PHASES)
"""Milliseconds of each phase, on a span."""

LETTER_ID: Final = "toolspan.dead_letter.id"
"""The dead letter's own id; `dlq.id` is that of the entry."""

DEAD_LETTER: Final = tuple(
    f"dlq.{name}"
    for name in (
        "id",
        "reason",
        "error_type",
        "error_message",
        "consumer",
        "fingerprint",
        "stack",
        "traceparent",
        "at",
        "attempts",
        "first_delivered",
        "reply",
    )
)
"""What an event tells of a dead letter: its own fields, by their own names; a reply only where results may be seen."""
