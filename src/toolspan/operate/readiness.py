"""Waiting until others answer: what containers start after."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from toolspan.errors import SettingsError, StoreError, ToolspanError
from toolspan.keys import Keys
from toolspan.store import Connection, Inspector

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLL_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 2.0
_REDIS: Final = ("redis", "rediss", "unix")


async def wait_for(urls: Sequence[str], *, within: float) -> None:
    """Wait until everything at *urls* answers: redis, rediss, unix, http, https (2xx), tcp.

    Raises:
        SettingsError: if a URL is of another kind.
        ToolspanError: if one does not answer *within* so many seconds; it says which, and why.
    """
    for url in urls:
        if urlsplit(url).scheme not in {*_REDIS, "http", "https", "tcp"}:
            message = f"{url} cannot be waited for: give a redis, rediss, unix, http, https or tcp URL"
            raise SettingsError(message)
    deadline = time.monotonic() + within
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(_wait(url, deadline)) for url in urls]
    problems = [problem for problem in (task.result() for task in waiting) if problem]
    if problems:
        raise ToolspanError("; ".join(problems))


async def _wait(url: str, deadline: float) -> str | None:
    while True:
        problem = await _problem(url)
        if problem is None:
            return None
        if time.monotonic() > deadline:
            return f"{url} does not answer: {problem}"
        await asyncio.sleep(_POLL_SECONDS)


async def _problem(url: str) -> str | None:
    """Say what is wrong with *url*; None if it answers."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            if parts.scheme in _REDIS:
                await _ping(url)
            elif parts.scheme == "tcp":
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.close()
            else:
                await asyncio.to_thread(_get, url)
    except TimeoutError:
        return f"no answer within {_ANSWER_SECONDS:g} s"
    except (StoreError, URLError, OSError, ValueError) as exc:
        return str(exc)
    return None


async def _ping(url: str) -> None:
    connection = Connection.to(url)
    try:
        await Inspector(connection, Keys()).ping()
    finally:
        await connection.aclose()


def _get(url: str) -> None:
    # Only http and https come here, see wait_for.
    with urlopen(Request(url), timeout=_ANSWER_SECONDS):  # noqa: S310
        return
