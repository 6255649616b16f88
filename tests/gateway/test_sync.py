"""The client for programs without asyncio."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from toolspan import SyncToolClient, ToolClient, ToolError, ToolTimeout
from toolspan.gateway.options import CallOptions, SendOptions

if TYPE_CHECKING:
    from tests.gateway.answerer import Answerer
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


async def test_many_threads_call_through_one_client(settings: Settings, recorder: Recorder, worker: Answerer) -> None:
    def program() -> list[object]:
        with SyncToolClient(settings, probe=recorder.probe) as tools, ThreadPoolExecutor(8) as threads:
            numbers = list(threads.map(lambda n: tools.call("echo", {"n": n}).result["n"], range(50)))
            with pytest.raises(ToolError, match="so tool_error"):
                tools.call("error.tool_error")
            return [numbers, tools.send("echo"), tools.tools()]

    numbers, sent, served = await asyncio.to_thread(program)

    assert numbers == list(range(50))
    assert sent in {fields["id"] for fields in worker.seen}
    assert served == []
    assert "toolspan-client" not in {thread.name for thread in threading.enumerate()}


async def test_leaving_lets_no_thread_wait_for_ever(settings: Settings, recorder: Recorder, worker: Answerer) -> None:
    tools = SyncToolClient(settings, probe=recorder.probe)
    await asyncio.to_thread(tools.__enter__)
    waiting = asyncio.create_task(asyncio.to_thread(tools.call, "mute", timeout=60))
    await eventually(lambda: worker.seen, because="the call is sent")
    await asyncio.to_thread(tools.__exit__, None, None, None)

    with pytest.raises(ToolTimeout, match="the caller stopped"):
        await waiting


def test_a_client_that_is_not_open_says_so(settings: Settings, recorder: Recorder) -> None:
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        SyncToolClient(settings, probe=recorder.probe).call("echo")


@pytest.mark.parametrize(("method", "options"), [("call", CallOptions), ("stream", CallOptions), ("send", SendOptions)])
def test_it_takes_what_the_client_takes(method: str, options: type) -> None:
    """But for the trace to go on from: that of another thread is none of ours."""
    taken = inspect.signature(getattr(ToolClient, method)).parameters.values()
    named = [one.name for one in taken if one.kind is inspect.Parameter.KEYWORD_ONLY]

    assert [*options.__annotations__, "parent"] == named
    assert {one.default for one in taken if one.kind is inspect.Parameter.KEYWORD_ONLY} == {None}
