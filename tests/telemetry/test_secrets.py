"""A run full of secrets: none of them is in anything that people, or those who watch, get to read."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import Shell, ended, line
from tests.support.eventually import eventually
from toolspan import ToolError, tool
from toolspan.errors import InvalidArguments
from toolspan.gateway.client import ToolClient
from toolspan.redaction import UNREADABLE, Redactor
from toolspan.testing import Recorder, running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector
    from toolspan.settings import Settings

ARGUMENT = "argument-0451-of-a-caller"
RESULT = "result-0452-of-a-tool"
OURS = "s3cr3t"

TOOLS = '''
import os
from toolspan import tool

@tool
async def gives(text: str) -> str:
    """Give something private back."""
    return "result-0452-of-a-tool"

@tool
async def breaks(text: str) -> None:
    """Tell its secrets to whoever listens."""
    try:
        raise ValueError("Authorization: Bearer " + "s3" + "cr3tvalue")
    except ValueError as exc:
        raise RuntimeError("password=" + os.environ["OF_THE_TOOL"] + " for redis://u:s3" + "cr3t@host and Ada") from exc

def without_ada(text: str) -> str:
    return text.replace("Ada", "somebody")
'''


@tool
async def gives(text: str) -> str:
    """Give something private back."""
    del text
    return RESULT


@tool
async def breaks(text: str) -> None:
    """Tell a secret, and the name of somebody."""
    message = f"password={OURS} of Ada, who was asked for {len(text)}"
    raise RuntimeError(message)


def _everything(collector: Collector) -> str:
    return repr((collector._spans, collector._points, collector._records))


async def test_no_secret_leaves_in_logs_spans_events_dead_letters_or_replies(
    plane: Plane, settings: Settings, collector: Collector, tmp_path: Path
) -> None:
    (tmp_path / "my_tools.py").write_text(TOOLS)
    shell = Shell.of(tmp_path, settings)
    secrets = {
        "TOOLSPAN_REDACT": "my_tools:without_ada",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OF_THE_TOOL": f"{OURS}-of-the-environment",
        "TOOLSPAN_REDIS_URL": settings.redis_url.replace("?db", f"?sentinel_password={OURS}&db"),
        "PYTHONPATH": str(Path.cwd()),
    }
    said = ""
    async with shell.started("worker", "--tools", "my_tools", "--log-level", "debug", **secrets) as worker:
        await line(worker, "worker.started")
        for arguments in (("gives", f'{{"text": "{ARGUMENT}"}}'), ("breaks", f'{{"text": "{ARGUMENT}"}}')):
            command = await shell.run("call", *arguments, **secrets)
            said += command.out.replace(RESULT, "the caller's own") + command.err
        await plane.append("breaks", reply=False, text=ARGUMENT)
        await plane.append("breaks", "answered", text=ARGUMENT)
        await eventually(plane.dead_letters, because="the failure of a call that nobody waits for is kept")
        await eventually(lambda: plane.reply("answered"), because="the other is answered")
        worker.send_signal(signal.SIGTERM)
        end = await ended(worker)
        said += end.out + end.err
    for words in (["dlq", "ls"], ["config"], ["config", "--json"]):
        shown = await shell.run(*words, **secrets)
        said += shown.out + shown.err
    [letter] = await plane.dead_letters()
    reply = await plane.reply("answered")
    assert reply
    assert reply.failure
    everywhere = said + _everything(collector) + repr((letter.error_message, letter.stack, reply))

    assert OURS not in everywhere
    assert "Ada" not in everywhere
    assert ARGUMENT not in everywhere
    assert RESULT not in everywhere
    assert "password=***" in reply.failure.message
    assert "somebody" in reply.failure.message
    assert letter.stack
    assert "Authorization: ***" in letter.stack
    assert "delivery.quarantined" in said
    assert collector.records("gen_ai.execute_tool.exception")
    assert collector.spans("execute_tool breaks")


async def _run(settings: Settings, recorder: Recorder) -> dict[str, dict[str, Any]]:
    """Make two calls, and give the attributes of what ran them."""
    async with (
        running_worker(gives, breaks, settings=settings, probe=recorder.probe),
        ToolClient(settings, probe=recorder.probe) as client,
    ):
        await client.call("gives", {"text": f"{ARGUMENT} and password={OURS}"})
        with pytest.raises(ToolError):
            await client.call("breaks", {"text": ARGUMENT})
    return {span.name: dict(span.attributes or {}) for span in recorder.spans}


async def test_arguments_and_results_are_on_no_span_unless_asked_for(settings: Settings, plane: Plane) -> None:
    del plane
    recorder = Recorder(settings.keys)
    spans = await _run(settings, recorder)

    assert ARGUMENT not in repr([(dict(span.attributes or {}), span.status) for span in recorder.spans])
    assert RESULT not in repr(spans)


async def test_what_is_captured_is_redacted(settings: Settings, plane: Plane) -> None:
    del plane
    recorder = Recorder(settings.keys, capture_args=True, redact=Redactor(lambda text: text.replace("0452", "…")))
    spans = await _run(settings, recorder)

    gave, broke = spans["execute_tool gives"], spans["execute_tool breaks"]
    assert gave["gen_ai.tool.call.arguments"] == f'{{"text":"{ARGUMENT} and password=***"}}'
    assert gave["gen_ai.tool.call.result"] == '"result-…-of-a-tool"'
    assert broke["gen_ai.tool.call.arguments"] == f'{{"text":"{ARGUMENT}"}}'
    assert "gen_ai.tool.call.result" not in broke
    assert not [
        name for name, attributes in spans.items() if name.startswith("process") and ARGUMENT in str(attributes)
    ]


def _broken(text: str) -> str:
    raise ValueError(text)


async def test_a_redactor_that_raises_loses_no_call_and_leaks_nothing(
    settings: Settings, plane: Plane, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(settings.keys, capture_args=True, redact=Redactor(_broken))
    heard: list[str] = []
    recorder.probe.redact.failed = heard.append
    spans = await _run(settings, recorder)
    lines = capfd.readouterr()

    assert spans["execute_tool gives"]["gen_ai.tool.call.arguments"] == UNREADABLE
    everything = (
        repr((spans, recorder.events, [span.status.description for span in recorder.spans])) + lines.out + lines.err
    )
    assert ARGUMENT not in everything
    assert OURS not in everything
    assert heard == ["ValueError"]
    assert await plane.left() == 0


async def test_arguments_that_do_not_fit_are_told_without_their_values(settings: Settings, plane: Plane) -> None:
    del plane
    recorder = Recorder(settings.keys)
    async with (
        running_worker(gives, settings=settings, probe=recorder.probe),
        ToolClient(settings, probe=recorder.probe) as client,
    ):
        with pytest.raises(InvalidArguments) as raised:
            await client.call("gives", {"text": [ARGUMENT]})

    assert ARGUMENT not in str(raised.value) + repr(raised.value.detail) + repr(recorder.events)
    assert ARGUMENT not in repr([(dict(span.attributes or {}), span.status.description) for span in recorder.spans])


async def test_an_error_that_nobody_catches_is_told_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text('raise RuntimeError("password=" + "s3" + "cr3t")\n')
    shell = Shell(tmp_path, {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])})
    program = "from toolspan.__main__ import _tell; import sys; sys.excepthook = _tell; import broken"
    async with shell.program("python3", "-c", program, PYTHONPATH=f"{tmp_path}:{Path.cwd()}/src") as process:
        end = await asyncio.wait_for(ended(process), 30)

    assert end.code == 1
    assert OURS not in end.err
    assert "RuntimeError: password=***" in end.err
