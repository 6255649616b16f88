"""Under calls of all kinds, nothing is emitted that the catalog does not name, and all that it names is."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.telemetry.orphans import lose
from toolspan import ToolClient, ToolspanError
from toolspan.errors import NotReplayableError
from toolspan.monitor.reporter import Reporter
from toolspan.operate.dead_letters import discard, replay
from toolspan.store import DeadLetterStore, Inspector
from toolspan.telemetry import attributes as at
from toolspan.telemetry.catalog import EVENTS, METRICS, ON_EVERY_SPAN, SPANS, Span
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan.store import Connection
    from toolspan.testing import EmbeddedServer, Recorder

ALL = Registry.load(["tests.support.toolbox"])

# The recorder has no server that it could name, see test_traces.py; and results may be seen by nobody here, see
# test_secrets.py.
NOT_HERE_ON_SPANS = {
    name: {at.SERVER_ADDRESS, at.SERVER_PORT, *more}
    for name, more in {
        "call {tool}": (),
        "send {stream}": (),
        "process {stream}": (),
        "execute_tool {tool}": (at.TOOL_CALL_ARGUMENTS, at.TOOL_CALL_RESULT),
        "send {prefix}:reply": (),
    }.items()
}
# The results of tools again; and what test_consumer.py, test_operators.py and the test below bring about.
NOT_HERE_ON_EVENTS = {
    "toolspan.dead_letter": {"dlq.reply"},
    "messaging.process.exception": {"messaging.process.exception"},
    "toolspan.stale_result": {"toolspan.stale_result"},
    **{name: {name} for name in ("toolspan.pause", "toolspan.resume", "toolspan.drain")},
}


async def test_whatever_is_emitted_is_in_the_catalog(
    plane: Plane, server: EmbeddedServer, recorder: Recorder, connection: Connection, tmp_path: Path
) -> None:
    settings = plane.settings
    await _before(plane)
    async with Proxy(server.port) as proxy:
        behind = settings.model_copy(update={"redis_url": proxy.url, "lease_ms": 200, "reap_after_ms": 400})
        async with (
            running_worker(ALL, settings=behind, probe=recorder.probe),
            ToolClient(settings, probe=recorder.probe) as client,
        ):
            await _of_all_kinds(plane, client, recorder, tmp_path)
            await _lose_one(plane, recorder, tmp_path)
            proxy.cut_before(b"XREADGROUP")
            await eventually(lambda: "toolspan.redis.up" in _events(recorder), because="the outage is over")
            await eventually(lambda: "toolspan.reap" in _events(recorder), because="the dead consumer is reaped")
            recorder.probe.loop_stalled(seconds=1, stack="here")
    emitted = await _operate(plane, recorder, connection)

    assert _metrics_beside_the_catalog(emitted) == {}
    assert _spans_beside_the_catalog(recorder, settings.prefix) == {}
    assert _events_beside_the_catalog(recorder) == {}
    assert _not_on_spans(recorder, settings.prefix) == NOT_HERE_ON_SPANS
    assert _not_on_events(recorder) == NOT_HERE_ON_EVENTS
    # What this load does not bring about would not be checked.
    assert {metric.name for metric in METRICS} - emitted.keys() == set()


async def _before(plane: Plane) -> None:
    """Leave behind what a worker that died leaves: an orphan, poison, and one whose body is gone."""
    await plane.append("echo", "orphan")
    gone = await plane.append("echo", "gone")
    poison = await plane.append("echo", "poison")
    await lose(plane, "dead-1")
    counted = ("XCLAIM", plane.keys.calls, plane.keys.group, "dead-2", 0, poison, "IDLE", 3_600_000)
    await plane.redis.execute_command(*counted, "RETRYCOUNT", 4, "JUSTID", parse_justid=True)
    await plane.redis.xdel(plane.keys.calls, gone)


async def _of_all_kinds(plane: Plane, client: ToolClient, recorder: Recorder, folder: Path) -> None:
    runs = str(folder / "runs")
    calls = [
        client.call("echo", {"text": "a"}),
        client.call("marked.sync", {"path": runs}),
        client.call("once", {"path": runs}),
        client.call("scarce", {"path": runs}),
        client.call("fails"),
        client.call("leaves"),
        client.call("hangs"),
        client.call("echo", {"nothing": "of the sort"}),
        client.call("nobody.serves.this"),
        client.call("strange", {"kind": "large"}),
        client.call("flaky", {"path": f"{runs}-flaky", "good_from": 2}),
        client.call("marked", {"path": runs, "seconds": 30}, timeout=0.3),
    ]
    await asyncio.gather(*calls, return_exceptions=True)
    with suppress(ToolspanError):
        async with ToolClient(plane.settings, url="unix:///nowhere.sock", probe=recorder.probe) as nowhere:
            await nowhere.call("echo")
    await plane.add("no", "call")
    await plane.add("v", "2", "id", "newer", "tool", "echo", "reply_to", plane.reply_to)
    await plane.append("fails", "silent", reply=False)
    wrong = plane.keys.replies("on-purpose")
    await plane.redis.set(wrong, "no stream")
    await plane.add("v", "1", "id", "unwritable", "tool", "echo", "args", "{}", "reply_to", wrong)
    await eventually(lambda: _empty(plane), because="all of them have their end")


async def _lose_one(plane: Plane, recorder: Recorder, folder: Path) -> None:
    """Have a call taken away while it runs."""
    runs = folder / "stolen"
    await plane.append("marked", "cancelled", path=str(runs), seconds=60)
    await eventually(runs.exists, because="it runs")
    (entry,) = await plane.pending()
    command = ("XCLAIM", plane.keys.calls, plane.keys.group, "thief", 0, entry, "JUSTID")
    await plane.redis.execute_command(*command, parse_justid=True)
    await eventually(lambda: "toolspan.lease.lost" in _events(recorder), because="the heartbeat tells")
    await plane.redis.xack(plane.keys.calls, plane.keys.group, entry)
    await plane.redis.xdel(plane.keys.calls, entry)


async def _operate(plane: Plane, recorder: Recorder, connection: Connection) -> dict[str, list[Any]]:
    """Do what operators do; give the points of all metrics, those of the group from while they are told."""
    store = DeadLetterStore(connection, plane.keys)
    letters = await plane.dead_letters()
    for letter in letters:
        with suppress(NotReplayableError):
            await replay(store, letter, recorder.probe, codec=plane.codec, who="tester")
    # What was replayed waits now, and what was refused lies there still.
    await plane.redis.execute_command(
        "XREADGROUP", "GROUP", plane.keys.group, "other", "COUNT", 1, "STREAMS", plane.keys.calls, ">"
    )
    await Reporter(Inspector(connection, plane.keys), recorder.probe, me="me", lease_ms=200).sweep()
    # Collected at once: figures that get too old are told no more.
    of_group = recorder._collected()
    for letter in await plane.dead_letters():
        await discard(store, letter, recorder.probe, who="tester", why="done")
    return {**of_group, **recorder._collected()}


async def test_a_result_that_is_refused_is_told_with_all_that_the_catalog_names(
    plane: Plane, recorder: Recorder, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(
        ALL,
        settings=plane.settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 120_000}),
        probe=recorder.probe,
    ):
        entry_id = await plane.append("until", path=str(runs), release=str(release))
        await eventually(runs.exists, because="the tool runs")
        command = ("XCLAIM", plane.keys.calls, plane.keys.group, "thief", 0, entry_id, "JUSTID")
        await plane.redis.execute_command(*command, parse_justid=True)
        release.touch()
        await eventually(lambda: "toolspan.stale_result" in _events(recorder), because="its result is refused")

    assert "toolspan.stale_result" not in _not_on_events(recorder)
    assert _events_beside_the_catalog(recorder) == {}


async def _empty(plane: Plane) -> bool:
    return await plane.left() == 0


def _events(recorder: Recorder) -> list[str]:
    return [name for name, _ in recorder.events]


def _metrics_beside_the_catalog(emitted: dict[str, list[Any]]) -> dict[str, set[str]]:
    known = {metric.name: set(metric.attributes) for metric in METRICS}
    found: dict[str, set[str]] = {}
    for name, points in emitted.items():
        for attributes in (point.attributes or {} for point in points):
            if name not in known or attributes.keys() - known[name]:
                found.setdefault(name, set()).update(attributes.keys() - known.get(name, set()))
    return found


def _patterns(prefix: str) -> list[tuple[re.Pattern[str], Span]]:
    patterns = []
    for span in SPANS:
        pattern = re.escape(span.name).replace(r"\{prefix\}", prefix).replace(r"\{stream\}", f"{prefix}:stream:tools")
        patterns.append((re.compile(pattern.replace(r"\{tool\}", ".+")), span))
    return patterns


def _spans_beside_the_catalog(recorder: Recorder, prefix: str) -> dict[str, set[str]]:
    patterns = _patterns(prefix)
    found: dict[str, set[str]] = {}
    for ended in recorder.spans:
        kinds = [span for pattern, span in patterns if pattern.fullmatch(ended.name) and span.kind == ended.kind.name]
        known = {*ON_EVERY_SPAN, *(name for kind in kinds for name in kind.attributes)}
        beside = set((ended.attributes or {}).keys() - known)
        happened = {one.name: set(one.attributes) for kind in kinds for one in kind.events}
        for event in ended.events:
            beside |= (event.attributes or {}).keys() - happened.get(event.name, set())
            beside |= {event.name} - happened.keys()
        if len(kinds) != 1 or beside:
            found.setdefault(ended.name, set()).update(beside)
    return found


def _events_beside_the_catalog(recorder: Recorder) -> dict[str, set[str]]:
    known = {event.name: set(event.attributes) for event in EVENTS}
    found: dict[str, set[str]] = {}
    for name, attributes in recorder.events:
        if name not in known or attributes.keys() - known[name]:
            found.setdefault(name, set()).update(attributes.keys() - known.get(name, set()))
    return found


def _not_on_spans(recorder: Recorder, prefix: str) -> dict[str, set[str]]:
    """The attributes, and events, of the catalog that no span of theirs has."""
    missing: dict[str, set[str]] = {}
    for pattern, span in _patterns(prefix):
        ended = [one for one in recorder.spans if pattern.fullmatch(one.name) and one.kind.name == span.kind]
        on_span = {name for one in ended for name in one.attributes or {}}
        on_events = {name for one in ended for event in one.events for name in (event.name, *(event.attributes or {}))}
        named = {name for event in span.events for name in (event.name, *event.attributes)}
        missing[span.name] = {*ON_EVERY_SPAN, *span.attributes} - on_span | named - on_events
    return missing


def _not_on_events(recorder: Recorder) -> dict[str, set[str]]:
    """The attributes of the catalog that no event of theirs has; the name, where there was none."""
    missing = {}
    for event in EVENTS:
        happened = [attributes for name, attributes in recorder.events if name == event.name]
        lacks = set(event.attributes) - {name for attributes in happened for name in attributes}
        if not happened or lacks:
            missing[event.name] = lacks if happened else {event.name}
    return missing
