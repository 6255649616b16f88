"""Sends appends that come while another one is under way together: alone, each costs more than the call it carries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from toolspan.store.private import PrivateClient
    from toolspan.store.scripts import Script

_MOST: Final = 100
_MOST_BYTES: Final = 1 << 20
"""In one go: more would keep whoever comes next waiting."""


class _Waiting(NamedTuple):
    values: dict[str, Any]
    answer: asyncio.Future[Any]


class Appends:
    """Runs *script* once for each call, and nothing twice.

    One that comes alone is sent at once. What somebody asked for who has been cancelled is not sent, if it was not yet.
    """

    def __init__(self, client: PrivateClient, script: Script) -> None:
        self._client = client
        self._script = script
        self._waiting: list[_Waiting] = []
        self._one_is_under_way = False
        self._sending: asyncio.Task[None] | None = None

    async def run(self, **values: Any) -> Any:
        """Run the script, together with others if there are any. Raises what a run alone would raise."""
        if not self._one_is_under_way and self._sending is None:
            self._one_is_under_way = True
            try:
                return await self._script.run(self._client, **values)
            finally:
                self._one_is_under_way = False
                if self._waiting:
                    self._send()
        waiting = _Waiting(values, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        return await waiting.answer

    def _send(self) -> None:
        # In a task of its own: whoever gives up gives up for himself.
        self._sending = asyncio.create_task(self._send_all(), name="appends")

    async def _send_all(self) -> None:
        while batch := self._take():
            await self._send_together(batch)
        self._sending = None

    def _take(self) -> list[_Waiting]:
        """Take as many as go together."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        size, count = 0, 0
        for waiting in self._waiting[:_MOST]:
            size += sum(map(len, waiting.values["fields"]))
            count += 1
            if size > _MOST_BYTES:
                break
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch

    async def _send_together(self, batch: list[_Waiting]) -> None:
        try:
            commands = self._script.commands([waiting.values for waiting in batch])
            _, *answers = await self._client.execute_commands(commands)
        except Exception as exc:  # noqa: BLE001 - it is raised where each of them waits
            answers = [exc] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
                # Whoever was cancelled just now does not ask.
                waiting.answer.exception()
            else:
                waiting.answer.set_result(answer)
