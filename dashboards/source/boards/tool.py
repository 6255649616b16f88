"""Tool: what is wrong with this one?"""

from __future__ import annotations

from typing import Final

from dashboards.source import panels, signals
from dashboards.source.dashboard import Board, Row
from dashboards.source.panels import ORANGE, RED, graph, heatmap, search, stat
from dashboards.source.signals import burning

_OF_THE_TOOL: Final = 'resource.service.name = "toolspan-worker" && span.gen_ai.tool.name =~ "${tool:regex}"'

BOARD: Final = Board(
    "tool",
    "Tool",
    "What is wrong with this tool: its own errors, its dependency, or what surrounds it?",
    (
        Row(
            "Is it healthy?",
            (
                stat("How many calls a second?",
                     "Calls of the chosen tools that ended, as callers saw it.", signals.CALLS,
                     base="blue"),
                stat("Which share do we lose?", "Calls without a reply, or with one that says that we failed, not "
                                                "the tool.",
                     signals.LOST_TO_US, steps=((0.001, ORANGE), (0.01, RED))),
                stat("What do callers wait? (p95)", "End to end, for 95 of 100 calls.", signals.end_to_end(0.95),
                     steps=((5, ORANGE), (10, RED))),
                stat("How long does it run? (p95)",
                     "Inside the tool alone, for 95 of 100 attempts.", signals.running(0.95),
                     base="blue"),
                stat("Which share is run again?", "Attempts that were taken over from a worker that died or was too "
                                                  "slow.",
                     signals.RECLAIM_SHARE, steps=((0.01, ORANGE), (0.05, RED)), links=(panels.TO_CONSUMERS,)),
                stat("Is its budget burning?", "The budget of 'answered', over an hour, for the worst of "
                                                       "the chosen "
                     "tools. 1 uses it up exactly.", burning("answered", "1h"), steps=((1, ORANGE), (6,
                     RED)), decimals=1),
            ),
        ),
        Row(
            "Errors",
            (
                graph("How do its calls end?",
                      "As callers see it: ok, the type of the error, or no reply.", signals.OUTCOMES,
                      stacked=True),
                graph("What does it raise?", "Attempts in which the tool failed, by the type of the error. Traces "
                                             "below show "
                      "the exception.", signals.TOOL_ERRORS),
                graph("Which attempts does it take?", "Attempts by how they came (first, retry, reclaim, replay) "
                                                      "and how they "
                      "ended.", signals.ATTEMPTS, links=(panels.TO_CONSUMERS,)),
            ),
        ),
        Row(
            "Duration",
            (
                heatmap("How long does it run?", "Attempts by how long the tool ran. A dot is one of them: click it "
                                                 "for its "
                        "trace.", signals.RUNNING_HEAT, unit="s"),
                graph("How long does it run, and how long do its calls wait before?", "Inside the tool, and in the "
                                                                                      "stream "
                      "before. A long wait is ours, a long run is the tool's.",
                      signals.running(0.5), signals.running(0.95),
                      signals.running(0.99), signals.waiting(0.95), width=12, height=9),
                graph("Which of the chosen tools is slow?", "Inside the tool, for 95 of 100 attempts.",
                      signals.RUNNING_BY_TOOL, links=(panels.to_tool(),), width=12),
                graph("How long does a worker have it?", "From the read until the call was settled, parked or "
                                                         "quarantined, "
                      "for 95 of 100.", signals.PROCESSING, width=12),
            ),
        ),
        Row(
            "Limits and waste",
            (
                graph("What runs for nobody?", "Slots that are taken by calls that expired, were cancelled, or "
                                               "were somebody else's by the end.", signals.WASTED, stacked=True,
                      width=12),
                graph("Do its limits hold it back?", "Calls that workers hold until a limit of their tool lets them "
                                                     "begin.",
                      signals.HELD_BACK, stacked=True, width=12),
            ),
        ),
        Row(
            "Show me one",
            (
                search("Failing attempts", "Attempts of the chosen tools that failed or were lost, newest first.",
                       f"{{ {_OF_THE_TOOL} && kind = consumer && status = error }} "
                       "| select(span.error.type, span.toolspan.attempt, span.toolspan.delivery, "
                       "span.messaging.client.id)",
                       none="no attempt failed, or none of them was kept", spans=True),
                search("Slow attempts", "Attempts of the chosen tools that took longer than five seconds.",
                       f"{{ {_OF_THE_TOOL} && kind = consumer && duration > 5s }} "
                       "| select(span.toolspan.attempt, span.toolspan.phase.queue, span.toolspan.phase.execute)",
                       none="no attempt took so long", spans=True),
            ),
        ),
    ),
)  # fmt: skip
