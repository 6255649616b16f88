"""Platform: is it us, Redis, or the telemetry itself?"""

from __future__ import annotations

from typing import Final

from dashboards.source import signals
from dashboards.source.dashboard import Board, Row
from dashboards.source.panels import ORANGE, RED, graph, stat

_OLD: Final = ((45, ORANGE), (120, RED))

BOARD: Final = Board(
    "platform",
    "Platform",
    "Is it us, Redis, or the telemetry itself?",
    (
        Row(
            "Can the other dashboards be believed?",
            (
                stat("Is the group measured?", "Backlog, workers and dead letters are measured by one "
                                                         "process. Red: "
                     "nobody does, and what they show is the past.", signals.MONITOR_AGE, steps=_OLD),
                stat("Do workers report?",
                     "How long ago any worker reported.", signals.WORKERS_AGE, steps=_OLD),
                stat("Does the collector answer?", "1 if Prometheus could ask it.", signals.COLLECTOR_UP, base=RED,
                     steps=((1, "green"),)),
                stat("How often does Redis fail us?", "Commands that failed, a second, for all roles.",
                     signals.REDIS_ERROR_RATE, steps=((0.01, ORANGE), (1, RED))),
                stat("How long has Redis been up?", "Shortly after a restart: what was not on disk is lost.",
                     signals.REDIS_UPTIME, base=ORANGE, steps=((3600, "green"),)),
                stat("How many versions run?", "More than one: a deploy is under way, or stuck; which, below.",
                     signals.HOW_MANY_VERSIONS, steps=((2, ORANGE),)),
            ),
        ),
        Row(
            "Redis",
            (
                graph("What does Redis fail?", "Commands that failed, by what they were for and how. "
                                               "ServerFullError: it is out "
                      "of memory and takes no calls.", signals.REDIS_ERRORS, width=12),
                graph("How long do its commands take?", "As we see it, with the network, for 95 of 100: an append, "
                                                        "a read that "
                      "returned something (with its wait for it), a batch settled.", signals.REDIS_COMMANDS_TOOK,
                      width=12),
                graph("How full is it?", "Memory in use, and the limit at which it refuses calls; a limit of 0 is "
                                         "none.",
                      signals.REDIS_USED, signals.REDIS_LIMIT, width=6),
                graph("How busy is it?", "Commands a second, of everybody.", signals.REDIS_COMMANDS, width=6),
                graph("Who is connected?", "Blocked clients are workers that wait for calls, and callers for "
                                           "replies: that is "
                      "how it should be.", signals.REDIS_CLIENTS, signals.REDIS_BLOCKED, width=6),
                graph("Does it throw anything away?", "Connections rejected, and keys evicted. A stream is a key: "
                                                      "with any "
                      "policy but noeviction all of its calls can go at once.",
                      signals.REDIS_REFUSED, signals.REDIS_EVICTED, width=6),
            ),
        ),
        Row(
            "The pipeline of telemetry",
            (
                graph("What comes in?", "Spans, metric points and log records that the collector took, a second.",
                      *signals.ACCEPTED),
                graph("What is refused or lost?", "What the collector would not take, or could not hand on. Calls "
                                                  "do not suffer "
                      "from it, but traces and figures are missing.", *signals.REFUSED, *signals.FAILED),
                graph("Do its queues fill up?", "How full each exporter's queue is. Full: the backend behind it is "
                                                "slow or gone.",
                      signals.QUEUED, steps=((0.8, RED),)),
            ),
        ),
        Row(
            "What runs",
            (
                graph("Which versions run?", "Processes by service and version. Two of one service: a deploy is "
                                             "under way, or "
                      "stuck.", signals.VERSIONS),
                graph("Does something block a gateway?", "How much later than it should its event loop woke up, for 99 "
                                                         "of 100 times. "
                      "Whatever blocks it keeps all of its callers waiting.", signals.GATEWAY_LATE),
                graph("How long does the stream grow?", "Entries of the stream, and consumers registered in its group.",
                      signals.LENGTH, signals.CONSUMERS),
            ),
        ),
    ),
)  # fmt: skip
