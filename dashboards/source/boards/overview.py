"""Overview: are callers hurt, are we keeping up, was anything lost?"""

from __future__ import annotations

from typing import Final

from dashboards.source import panels, signals
from dashboards.source.dashboard import Board, Row
from dashboards.source.panels import ORANGE, RED, graph, search, stat
from dashboards.source.signals import burning

BOARD: Final = Board(
    "overview",
    "Overview",
    "Are callers hurt, are we keeping up, was anything lost? Start here.",
    (
        Row(
            "Is it healthy?",
            (
                stat(
                    "How many calls a second?",
                    "Calls that ended, as callers saw it, by the gateways.",
                    signals.CALLS,
                    base="blue",
                    links=(panels.to_traces(),),
                ),
                stat(
                    "Which share do we lose?",
                    "Calls without a reply, or with one that says that we failed: no reply in time, deadline exceeded, "
                    "quarantined, outcome unknown, worker error. A tool's own error is not counted: its caller was "
                    "told.",
                    signals.LOST_TO_US,
                    steps=((0.001, ORANGE), (0.01, RED)),
                    links=(panels.to_traces(),),
                ),
                stat(
                    "What do callers wait? (p95)",
                    "From the call to its reply, end to end, for 95 of 100 calls.",
                    signals.end_to_end(0.95),
                    steps=((5, ORANGE), (10, RED)),
                    links=(panels.to_traces(),),
                ),
                stat(
                    "How old is the oldest call?",
                    "Age of the oldest call that no worker was given yet.",
                    signals.OLDEST,
                    steps=((10, ORANGE), (60, RED)),
                    links=(panels.TO_CONSUMERS,),
                ),
                stat(
                    "How many workers live?",
                    "Workers that were heard of within their lease. Red when none is left.",
                    signals.LIVE,
                    base=RED,
                    steps=((1, "green"),),
                    links=(panels.TO_CONSUMERS,),
                ),
                stat(
                    "How many dead letters?",
                    "Calls that were given up on, and wait for a person.",
                    signals.DEAD,
                    steps=((1, ORANGE), (50, RED)),
                    links=(panels.TO_DEAD_LETTERS,),
                ),
            ),
        ),
        Row(
            "Rate, errors, duration",
            (
                graph(
                    "How do calls end?",
                    "Calls a second by outcome, as callers see it: ok, the type of the error, or no reply.",
                    signals.OUTCOMES,
                    links=(panels.to_traces(),),
                    stacked=True,
                ),
                graph(
                    "Which tool fails, and how?",
                    "Calls that did not end well, by tool and outcome, as workers saw it.",
                    signals.TOOL_FAILURES,
                    links=(panels.to_tool(),),
                ),
                graph(
                    "How long do callers wait?",
                    "From the call to its reply. A diamond is one call: click it for its trace.",
                    signals.end_to_end(0.5),
                    signals.end_to_end(0.95),
                    signals.end_to_end(0.99),
                    steps=((10, RED),),
                    links=(panels.to_traces(),),
                ),
                graph(
                    "Which tools are called?",
                    "Calls a second by tool, as callers see it.",
                    signals.BY_TOOL,
                    links=(panels.to_tool(),),
                ),
                graph(
                    "Which tool is slow?",
                    "What callers of each tool waited, for 95 of 100 calls. A diamond is one call: click it for its "
                    "trace.",
                    signals.END_TO_END_BY_TOOL,
                    links=(panels.to_tool(),),
                ),
                graph(
                    "Who got no reply?",
                    "Calls whose caller gave up waiting, by tool. Only the caller can see these.",
                    signals.NO_REPLY,
                    links=(panels.to_tool(),),
                ),
            ),
        ),
        Row(
            "Do we keep our promises?",
            (
                stat(
                    "Lost calls burn (1 h)",
                    "How many times faster than it lasts the budget of 'answered' burned over an hour, for the "
                    "worst tool. "
                    "1 uses it up exactly; 14.4 pages.",
                    burning("answered", "1h"),
                    width=3,
                    height=8,
                    steps=((1, ORANGE), (6, RED)),
                    decimals=1,
                ),
                stat(
                    "Slow calls burn (1 h)",
                    "How many times faster than it lasts the budget of 'fast' burned over an hour, for the worst tool.",
                    burning("fast", "1h"),
                    width=3,
                    height=8,
                    steps=((1, ORANGE), (6, RED)),
                    decimals=1,
                ),
                graph(
                    "How fast do the budgets burn?",
                    "For the worst tool, over 5 minutes, 1 hour and 6 hours. Pages: 14.4 over 1 h and 5 m, 6 over 6 "
                    "h and 30 m.",
                    burning("answered", "5m"),
                    burning("answered", "1h"),
                    burning("answered", "6h"),
                    burning("fast", "5m"),
                    burning("fast", "1h"),
                    burning("fast", "6h"),
                    width=10,
                    steps=((6, ORANGE), (14.4, RED)),
                ),
                graph(
                    "Which tool uses up its budget?",
                    "How fast each budget burned over three days. Above 1, the promise will be broken.",
                    signals.BUDGET,
                    steps=((1, RED),),
                    links=(panels.to_tool(),),
                ),
            ),
        ),
        Row(
            "Are we keeping up?",
            (
                graph(
                    "Does more arrive than is settled?",
                    "Calls appended by our gateways and clients, and calls settled. While more arrives the backlog "
                    "grows.",
                    signals.ARRIVED,
                    signals.SETTLED,
                    links=(panels.to_traces(),),
                ),
                graph(
                    "Where do calls wait?",
                    "Undelivered: no worker was given it. Pending: a worker holds it. Parked: it waits for its next "
                    "attempt.",
                    signals.UNDELIVERED,
                    signals.PENDING,
                    signals.PARKED,
                    links=(panels.TO_CONSUMERS,),
                ),
                stat(
                    "When is the backlog gone?",
                    "Undelivered, divided by how much more is settled than arrives.",
                    signals.DRAINED_IN,
                    base="blue",
                    height=8,
                ),
                stat(
                    "Are the workers full?",
                    "Slots that are taken, of all that there are. Near 100 %, add workers; well below, one can be "
                    "drained.",
                    signals.BUSY,
                    steps=((0.7, ORANGE), (0.9, RED)),
                    height=8,
                    links=(panels.TO_CONSUMERS,),
                ),
            ),
        ),
        Row(
            "Was anything lost, run twice or answered late?",
            (
                stat(
                    "Calls lost",
                    "Calls whose body was deleted or trimmed while they were pending, in the chosen time. They get "
                    "no reply.",
                    signals.LOST_ALL,
                    steps=((1, RED),),
                    decimals=0,
                    height=8,
                ),
                graph(
                    "Is work run again?",
                    "Orphans taken over from dead or slow workers, retries that were due, results that came too "
                    "late, and "
                    "dead workers removed.",
                    signals.RECLAIMED,
                    signals.UNPARKED,
                    signals.STALE,
                    signals.REAPED,
                    width=10,
                    links=(panels.TO_CONSUMERS,),
                ),
                graph(
                    "What becomes a dead letter?",
                    "Calls that were given up on, by tool and reason.",
                    signals.DYING,
                    width=10,
                    bars=True,
                    stacked=True,
                    links=(panels.TO_DEAD_LETTERS,),
                ),
            ),
        ),
        Row(
            "Show me one",
            (
                search(
                    "Failing calls",
                    "The newest traces in which an attempt failed or was lost. A trace id leads to its waterfall "
                    "and its logs.",
                    '{ resource.service.name =~ "toolspan-.+" && status = error }',
                    none="no call failed, or none of them was kept",
                ),
            ),
        ),
    ),
)
