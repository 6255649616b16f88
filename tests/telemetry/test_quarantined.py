"""What is said of a call that becomes a dead letter: enough to find it, and the call, again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.testing import Recorder


async def _quarantined(
    plane: Plane, settings: Settings, recorder: Recorder
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Have what waits become a dead letter; give its id, the log line, and the attributes of the event."""
    with capture_logs() as lines:
        async with running_worker(toolbox.fails, settings=settings, probe=recorder.probe):
            await eventually(plane.dead_letters, because="it is a dead letter")
    [letter] = await plane.dead_letters()
    [line] = [one for one in lines if one["event"] == "delivery.quarantined"]
    [event] = [attributes for name, attributes in recorder.events if name == "toolspan.dead_letter"]
    return letter.id, dict(line), event


async def test_it_is_told_with_the_id_of_the_dead_letter_and_that_of_the_entry(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    entry_id = await plane.append("fails", "c1", reply=False)
    letter_id, line, event = await _quarantined(plane, settings, recorder)

    assert (line["dead_letter"], line["entry_id"], line["call_id"]) == (letter_id, entry_id, "c1")
    assert (event["toolspan.dead_letter.id"], event["dlq.id"]) == (letter_id, entry_id)


async def test_a_malformed_call_is_told_with_what_can_be_read_of_it(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.add("v", "1", "id", "c1", "tool", "echo", "args", "{oops")
    _, line, event = await _quarantined(plane, settings, recorder)

    assert (line["call_id"], line["tool"], line["reason"]) == ("c1", "echo", "malformed")
    assert line["message"].startswith("args ")
    assert (event["messaging.message.conversation_id"], event["gen_ai.tool.name"]) == ("c1", "echo")
    # Names that anybody may choose are nothing to count by.
    assert recorder.total("toolspan.dead_letters", gen_ai_tool_name="_other") == 1
