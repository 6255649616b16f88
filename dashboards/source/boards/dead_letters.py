"""Dead letters: one cause or many, is replay safe, did it work?"""

from __future__ import annotations

from typing import Final

from dashboards.source import panels, signals
from dashboards.source.dashboard import Board, Row
from dashboards.source.panels import ORANGE, RED, Column, counted, graph, records, search, stat, table, text

_DAY: Final = 86_400
_EVENTS: Final = '{service_name="toolspan-worker"} | dlq_fingerprint != ""'

BOARD: Final = Board(
    "dead-letters",
    "Dead letters",
    "One cause or many? Is replay safe, and did it work?",
    (
        Row(
            "How bad is it?",
            (
                stat("How many lie there?", "Calls that were given up on, and wait for a person.", signals.DEAD,
                     steps=((1, ORANGE), (50, RED)), width=6, height=8),
                stat("How old is the oldest?", "A day without anybody looking is a ticket.", signals.OLDEST_DEAD,
                     steps=((_DAY / 24, ORANGE), (_DAY, RED)), width=6, height=8),
                graph("How did it grow?", "Dead letters that lie there, over time. Falling: somebody replays or "
                                          "discards.",
                      signals.DEAD, width=12, height=8),
                graph("What dies?",
                      "Calls that became dead letters, by tool and reason.", signals.DYING, width=12, bars=True,
                      stacked=True, links=(panels.to_tool(),)),
                table("One cause or many?", "About how many became dead letters in the chosen time.",
                      Column("dead letters", signals.DIED, decimals=0),
                      rows={"gen_ai_tool_name": "tool", "toolspan_reason": "reason"}, width=12, height=8,
                      links={"gen_ai_tool_name": panels.link("This tool", "tool", tool="${__value.raw}")}),
            ),
        ),
        Row(
            "The same failure, or different ones?",
            (
                counted("By fingerprint", "One fingerprint is one cause: the same tool, error and place. `toolspan "
                                          "dlq ls "
                        "--group-by fingerprint` says the same without Loki.",
                        f"sum by (dlq_fingerprint, dlq_reason, dlq_error_type, gen_ai_tool_name) "
                        f"(count_over_time({_EVENTS} "
                        "[$__range]))",
                        rows={"dlq_fingerprint": "fingerprint", "dlq_reason": "reason", "dlq_error_type": "error",
                              "gen_ai_tool_name": "tool"}, height=7),
                records("The newest", "Each with its error, its worker and its trace.", _EVENTS,
                        none="no dead letter in this time"),
                search("Their traces", "Attempts that ended in the dead letters.",
                       '{ kind = consumer && span.toolspan.outcome =~ "quarantined|outcome_unknown|malformed" } '
                       "| select(span.gen_ai.tool.name, span.error.type, span.toolspan.attempt)",
                       none="no dead letter in this time", spans=True),
            ),
        ),
        Row(
            "Is replay safe, and did it work?",
            (
                graph("What was replayed?", "Dead letters that an operator put back on the stream, or was refused to.",
                      signals.REPLAYED, bars=True, width=7),
                graph("How did replays end?",
                      "First attempts of replayed calls, by outcome.",
                      signals.AFTER_REPLAY, bars=True, width=7,
                      links=(panels.to_tool(),)),
                text("From the command line", "What to type next.",
                     "1. `toolspan dlq ls --group-by fingerprint`: how many causes\n"
                     "2. `toolspan dlq show ID`: one of each\n"
                     "3. `toolspan dlq replay --all-matching --reason worker_lost --dry-run`: what would be run again\n"
                     "4. the same without `--dry-run`, with `--wait`: what became of it\n"
                     "5. `toolspan dlq discard ID --why '…'`: what must not be run again", width=10, height=8),
            ),
        ),
    ),
)  # fmt: skip
