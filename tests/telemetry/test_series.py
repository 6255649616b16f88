"""How many series there are does not depend on what callers make up, nor on how many calls and workers there were."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.runs import starts
from toolspan import InvalidArguments, ToolCancelled, ToolError, ToolTimeout, UnknownTool
from toolspan.model import OTHER_TOOL
from toolspan.telemetry.catalog import METRICS
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.plane import Plane
    from toolspan import Settings, ToolClient
    from toolspan.testing import Recorder


ALL = Registry.load(["tests.support.toolbox"])


def series(recorder: Recorder) -> set[tuple[str, frozenset[tuple[str, object]]]]:
    return {
        (metric.name, frozenset(attributes.items()))
        for metric in METRICS
        for _, attributes in recorder.points(metric.name)
    }


def tools(recorder: Recorder) -> set[object]:
    return {value for _, labels in series(recorder) for name, value in labels if name == "gen_ai.tool.name"}


async def test_names_that_no_worker_serves_are_counted_under_one(
    plane: Plane, settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    """Whatever such a call ends with: callers, and the models behind them, may make up any number of names."""
    given_up = [asyncio.create_task(client.call(f"given-up-{n}")) for n in range(3)]
    entries: Any = await eventually(lambda: _appended(plane, 3), because="they wait")
    for _, fields in entries:
        await client.cancel(fields[3].decode())
    # Time enough to be sent, however busy the machine is: before that it is another error.
    ended = await asyncio.gather(*(client.call(f"late-{n}", timeout=1) for n in range(3)), return_exceptions=True)
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        ended += await asyncio.gather(*given_up, return_exceptions=True)
        ended += await asyncio.gather(*(client.call(f"unknown-{n}") for n in range(3)), return_exceptions=True)
        await client.call("echo")

    assert Counter(type(error) for error in ended) == {ToolTimeout: 3, ToolCancelled: 3, UnknownTool: 3}
    assert tools(recorder) == {"echo", OTHER_TOOL}


async def test_more_calls_and_more_workers_make_no_more_series(
    settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    found = []
    for round_ in range(3):
        async with running_worker(toolbox.echo, toolbox.fails, settings=settings, probe=recorder.probe):
            for n in range(5):
                await client.call("echo", {"text": f"{round_} {n}"}, tool_call_id=f"call_{round_}_{n}")
                with suppress(ToolError):
                    await client.call("fails", {"message": f"{round_} {n}"}, principal=f"p{n}")
        found.append(series(recorder))

    assert found[2] == found[0]


async def test_no_call_leaves_its_context_behind_however_it_ends(
    settings: Settings, recorder: Recorder, client: ToolClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A context that is detached elsewhere than where it was attached is a line in the log for each call."""
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await client.call("echo")
        for name, args in (
            ("fails", {}),
            ("hangs", {}),
            ("leaves", {}),
            ("echo", {"text": 7}),
            ("strange", {"kind": "nan"}),
        ):
            with suppress(ToolError, InvalidArguments):
                await client.call(name, args)
        for name in ("marked", "marked.sync"):
            with suppress(ToolTimeout):
                await client.call(name, {"path": str(tmp_path / name), "seconds": 0.5}, timeout=0.2)
        following = client.stream("marked", {"path": str(tmp_path / "followed"), "seconds": 9})
        async with following:
            await eventually(lambda: starts(tmp_path / "followed"), because="it runs")

    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert not trace.get_current_span().get_span_context().is_valid


async def _appended(plane: Plane, count: int) -> Any:
    found: Any = await plane.redis.xrange(plane.keys.calls)
    return found if len(found) == count else None
