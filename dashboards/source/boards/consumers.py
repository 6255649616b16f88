"""Consumers: which worker is stuck, and on what?"""

from __future__ import annotations

from typing import Final

from dashboards.source import panels, signals
from dashboards.source.dashboard import Board, Row
from dashboards.source.panels import ORANGE, RED, Column, graph, records, search, stat, table, text

_SILENT: Final = ((30, ORANGE), (60, RED))
_FULL: Final = ((0.7, ORANGE), (0.9, RED))

BOARD: Final = Board(
    "consumers",
    "Consumers",
    "Which worker is stuck, and on what? Can I roll or drain one?",
    (
        Row(
            "Who is there?",
            (
                stat("How many workers live?", "Workers that were heard of within their lease.", signals.LIVE, base=RED,
                     steps=((1, "green"),)),
                stat("Are they full?", "Slots that are taken, of all that there are. Well below 100 %, one can be "
                                       "drained.",
                     signals.BUSY, steps=_FULL),
                stat("How many are held?", "Calls handed to a worker and not settled yet, without the "
                                                     "parked.",
                     signals.PENDING, base="blue"),
                stat("How many wait for one?", "Calls that no worker was given yet.", signals.UNDELIVERED,
                     steps=((100, ORANGE), (1000, RED))),
                stat("How old is the oldest call?",
                     "Age of the oldest call that no worker was given yet.", signals.OLDEST,
                     steps=((10, ORANGE), (60, RED))),
                stat("Which share is taken over?", "Attempts that are orphans of a worker that died or was too slow.",
                     signals.RECLAIM_SHARE, steps=((0.01, ORANGE), (0.05, RED))),
            ),
        ),
        Row(
            "Which one is stuck?",
            (
                table(
                    "Every worker that reports",
                    "Heard: seconds since its last figures; a dead one stays for five minutes. Reading none "
                    "although there is "
                    "room and calls wait means that it is stuck.",
                    Column("holds", signals.INFLIGHT_EACH),
                    Column("room", signals.ROOM_EACH),
                    Column("slots taken", signals.BUSY_EACH, _FULL),
                    Column("reads a second", signals.READ_EACH),
                    Column("abandoned threads", signals.ABANDONED_EACH, ((1, ORANGE), (5, RED))),
                    Column("heard", signals.HEARD_EACH, _SILENT),
                    rows={"instance": "worker", "service_version": "version"},
                    links={"instance": panels.link("Only this worker", "consumers", instance="${__value.raw}")},
                ),
                graph("Who lives, who is silent?", "Workers that are registered, by whether they were heard of "
                                                   "within their "
                      "lease. A silent one is dead or cut off; its calls are taken over.", signals.WORKERS),
                graph("Who holds calls?", "Calls that each worker holds.", signals.INFLIGHT_EACH, stacked=True),
                graph("Who reads none?", "Calls that each worker takes a second.", signals.READ_EACH),
            ),
        ),
        Row(
            "Is one about to be too slow?",
            (
                graph("When was each heard, when did it read?", "Since Redis accepted a heartbeat, and since it "
                                                                "answered a read or there was no room for one.",
                      signals.HEARTBEAT_EACH, signals.POLL_EACH, width=12, height=9),
                graph("What is left of a lease?", "When calls were settled, for the 5 of 100 with the least. Near 0, "
                                                  "others soon take calls over that still run.", signals.LEASE_LEFT,
                      width=6, height=9),
                graph("Does something block the loop?", "How much later than it should the event loop woke up, for 99 "
                                                        "of 100 times.", signals.LOOP_LATE, width=6, height=9),
                graph("How long does the oldest attempt run?", "Of one whose worker is silent: since its lease was "
                                                               "renewed. And how old this figure is.",
                      signals.OLDEST_RUN, signals.MEASURED, width=12),
                graph("Which attempt is it?", "Calls that workers hold, by attempt: the second and later ones failed "
                                              "or were lost before.", signals.BY_ATTEMPT, width=12),
            ),
        ),
        Row(
            "What is taken over, and why?",
            (
                graph("Which orphans are taken over?", "worker_lost: its worker died. lease_expired: it lives, but "
                                                       "did not "
                      "renew its lease in time: its loop was blocked, or Redis was away.", signals.RECLAIMED),
                graph("How do attempts come, and how do they end?", "first, retry, reclaim, replay; and ok, an error, "
                      "retried, released or lost.", signals.ATTEMPTS),
                graph("What came too late, who was removed?", "Results that were refused because somebody else held "
                                                              "the call "
                      "by then; and dead workers that were deleted from the group.", signals.STALE, signals.REAPED),
                graph("Where does an attempt spend its time?", "Waiting in the stream, until the tool begins, and "
                                                               "from its end "
                      "to the reply, for 95 of 100.", signals.PHASES, width=12),
                graph("Which tools outlive their calls?", "Threads that still run although their call has ended. "
                                                          "Each takes a "
                      "slot.", signals.ABANDONED_EACH, width=12),
            ),
        ),
        Row(
            "Show me",
            (
                search("Lost attempts", "Attempts whose worker died or lost its lease, told by whoever took the "
                                        "call over.",
                       '{ kind = consumer && span.error.type =~ "worker_lost|lease_expired" } '
                       "| select(span.gen_ai.tool.name, span.messaging.client.id, span.toolspan.attempt, "
                       "span.error.type)",
                       none="no attempt was lost", spans=True),
                records("What workers say", "Reclaims, reaps, stalled loops, lost leases, drains and outages, as "
                                            "they happen.",
                        '{service_name="toolspan-worker"}', none="nothing"),
                text("And from the command line", "What to type next.",
                     "`toolspan consumers` lists what each worker holds · `toolspan pending --older 5m` says what "
                     "is held for "
                     "long, and by whom · `toolspan explain ID` tells the life of one call", height=3),
            ),
        ),
    ),
)  # fmt: skip
