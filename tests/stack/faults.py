"""Real faults, so that no panel is empty for want of what it is there for."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tests.dashboards.queries import filled_in, of_panels
from tests.stack.chain import EXPORT_SECONDS
from tests.stack.process import until
from toolspan.keys import Keys

if TYPE_CHECKING:
    from tests.stack.chain import Chain

KEYS = Keys("sg", "tools")
WORKERS = 2
"""How many the chain has."""

MALFORMED = 40
BACKLOG = 300
SECOND_EXPORT = 15.0
"""By then everything has been exported twice: a rate needs two points."""

[_GONE_IN] = [filled_in(query.text) for query in of_panels() if "When is the backlog gone?" in query.place]


def everything(chain: Chain) -> None:
    """Load with faults; returns once it has been exported."""
    chain.start_traffic()
    until(lambda: _positive(chain, "toolspan_calls_total"), "calls are counted", within=90)
    # First, for what it raises takes longest.
    lose_telemetry(chain)
    malformed(chain, MALFORMED)
    until(lambda: _positive(chain, "toolspan_dlq_length"), "dead letters are measured", within=60)
    # A worker that is killed takes with it what it has not exported.
    until(lambda: _dead_letters(chain) == MALFORMED, "all of them are counted", within=60)
    lose_a_call(chain)
    until(lambda: _positive(chain, "toolspan_lost_total"), "the loss is counted", within=90)
    whole = chain.folder / "whole"
    chain.send_and_leave("fragile", whole=str(whole))
    kill_a_worker(chain)
    restart_redis(chain)
    until(lambda: _positive(chain, "toolspan_redis_errors_total"), "the outage is counted", within=90)
    until(
        lambda: _positive(
            chain, "toolspan_dead_letters_total", toolspan_reason="worker_lost", gen_ai_tool_name="fragile"
        ),
        "what kills workers is quarantined",
        within=240,
    )
    whole.touch()
    replay(chain)
    until(lambda: _positive(chain, "toolspan_replays_total"), "the replay is counted", within=60)
    until(lambda: _positive(chain, "toolspan_attempts_total", toolspan_delivery="replay"), "it has ended", within=60)
    hold_up_the_workers(chain)
    leave_a_backlog(chain, BACKLOG)
    time.sleep(SECOND_EXPORT)
    chain["traffic"].end()


def lose_telemetry(chain: Chain) -> None:
    """The backends of traces and events refuse them, until it is counted."""
    chain.backends.refusing = True
    until(lambda: _failed(chain, "spans"), "lost spans are counted", within=120)
    until(lambda: chain.metric("otelcol_exporter_send_failed_log_records"), "lost events are counted", within=120)
    chain.backends.refusing = False


def malformed(chain: Chain, count: int) -> None:
    """A producer writes what cannot be read."""
    client = chain.redis()
    for _ in range(count):
        client.xadd(KEYS.calls, {"nonsense": "1"})


def lose_a_call(chain: Chain) -> None:
    """Somebody deletes the bodies of all calls that workers hold, and one of these workers dies with them."""
    chain.send_and_leave("summarise", text="lost")
    client = chain.redis()
    pending = until(lambda: client.xpending_range(KEYS.calls, KEYS.group, "-", "+", 50), "a call is held", within=20)
    held = cast("list[dict[str, Any]]", pending)
    os.kill(_pid(chain, held[0]["consumer"].decode()), signal.SIGKILL)
    client.xdel(KEYS.calls, *[entry["message_id"] for entry in held])


def kill_a_worker(chain: Chain) -> None:
    """SIGKILL for one of the workers; its parent starts another."""
    os.kill(worker_pids(chain)[0], signal.SIGKILL)


def hold_up_the_workers(chain: Chain) -> None:
    """Every worker is frozen until it has been measured how long calls wait; whoever is idle again tells no age."""
    # One that was killed comes back by itself, and would do the work of all.
    pids = until(lambda: len(found := worker_pids(chain)) == WORKERS and found, "all workers are back", within=90)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: _positive(chain, "toolspan_group_oldest_undelivered_age_seconds"), "calls wait", within=90)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def leave_a_backlog(chain: Chain, count: int) -> None:
    """A producer that counts nothing leaves many calls at once; returns once it is told when all will be settled."""
    client = chain.redis()
    for number in range(count):
        client.xadd(KEYS.calls, {"v": "1", "id": f"backlog-{number}", "tool": "search", "args": '{"query": "old"}'})
    until(lambda: chain.ask("query", query=_GONE_IN)["result"], "more is settled than arrives", within=90)


def kill_every_worker(chain: Chain, name: str = "w") -> None:
    """SIGKILL for the parent and for all of its children: alone, it would leave them the time to finish what waits."""
    pids = worker_pids(chain, name)
    chain[chain.workers_named(name)].end(signal.SIGKILL)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def worker_pids(chain: Chain, name: str = "w") -> list[int]:
    """The processes of the workers of this *name* that registered, newest first."""
    client = chain.redis()
    names = cast("list[bytes]", client.zrange(KEYS.workers, 0, -1, desc=True))
    pids = [_pid(chain, found.decode()) for found in names if found.startswith(f"{name}-".encode())]
    return [pid for pid in pids if pid and _lives(pid)]


def _pid(chain: Chain, consumer: str) -> int:
    return int(cast("Any", chain.redis().hget(KEYS.worker(consumer), "pid")) or 0)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def restart_redis(chain: Chain) -> None:
    """Redis dies and comes back on what is on disk, once its absence can be seen."""
    chain["redis"].end(signal.SIGKILL)
    time.sleep(2 * EXPORT_SECONDS)
    chain.start_redis()


def replay(chain: Chain) -> None:
    """An operator puts back what killed its workers and has been put right, and is refused what cannot be read."""
    for arguments in (("--tool", "fragile"), ("--reason", "malformed")):
        chain.operator("dlq", "replay", "--all-matching", *arguments)


def _dead_letters(chain: Chain) -> float:
    chain.check()
    return sum(float(value) for value in chain.metric("toolspan_dead_letters_total", toolspan_reason="malformed"))


def _failed(chain: Chain, kind: str) -> bool:
    # Growing, for the series is born with the first loss in it: until it has grown there is no rate.
    found = chain.ask("query", query=f"rate(otelcol_exporter_send_failed_{kind}[5m]) > 0")["result"]
    return bool(found)


def _positive(chain: Chain, metric: str, **labels: str) -> bool:
    chain.check()
    return any(float(value) > 0 for value in chain.metric(metric, **labels))
