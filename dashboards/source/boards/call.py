"""Call: one trace id, from gateway to reply."""

from __future__ import annotations

from typing import Final

from dashboards.source.dashboard import Board, Row, textbox
from dashboards.source.panels import records, search, text, waterfall

BOARD: Final = Board(
    "call",
    "Call",
    "What happened to this one call, from gateway to reply?",
    (
        Row(
            "The whole of it",
            (
                waterfall("Where did the time go?", "The call from the gateway to its reply, every attempt with the "
                                                    "worker it "
                          "ran on, and what the tool did. A lost attempt is told by whoever took the call over.",
                          "${trace}"),
            ),
        ),
        Row(
            "Its attempts",
            (
                search("Who tried, and how did it end?", "One line for each attempt: how it came, on which worker "
                                                         "it ran, how it "
                       "ended, and how long it waited and ran, in milliseconds.",
                       '{ trace:id = "${trace}" && kind = consumer } | select(resource.service.instance.id, '
                       "span.toolspan.attempt, span.toolspan.delivery, span.toolspan.outcome, span.error.type, "
                       "span.toolspan.phase.queue, span.toolspan.phase.admission, span.toolspan.phase.execute, "
                       "span.toolspan.phase.settle)", none="no worker has told of it yet", spans=True),
            ),
        ),
        Row(
            "Its logs",
            (
                records("What was said?", "Every event of this trace: exceptions with their stack, reclaims, dead "
                                          "letters.",
                        '{service_name=~"toolspan-.+"} | trace_id = `${trace}`',
                        none="nothing worth a line happened to it", height=10),
                text("Without a trace backend", "What to type next.",
                     "`toolspan explain CALL_OR_ENTRY_ID` tells the life of a call as Redis knows it: where it is, "
                     "what "
                     "happened to it, what can be done. The id of the call is `messaging.message.conversation_id` "
                     "on every "
                     "span.", height=3),
            ),
        ),
    ),
    (textbox("trace", "Trace"),),
)  # fmt: skip
