"""Waiting until others answer: what containers start after."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from toolspan.errors import SettingsError, StoreError, StoreUnavailableError, ToolspanError
from toolspan.keys import Keys
from toolspan.settings import REDIS_SCHEMES, without_password
from toolspan.store import Connection, Inspector

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLL_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 2.0


async def wait_for(urls: Sequence[str], *, within: float) -> None:
    """Wait until everything at *urls* answers: any Redis of ours, http, https (2xx), tcp.

    Raises:
        SettingsError: if a URL is of another kind, or cannot be read.
        StoreUnavailableError: if a Redis does not answer *within* so many seconds; it says which, and why.
        ToolspanError: if something else does not.
    """
    for url in urls:
        problem = _unreadable(url)
        if problem is not None:
            message = f"{without_password(url)} cannot be waited for: {problem}"
            raise SettingsError(message)
    deadline = time.monotonic() + within
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(_wait(url, deadline)) for url in urls]
    problems = [problem for problem in (task.result() for task in waiting) if problem]
    if problems:
        without_redis = any(problem.of_redis for problem in problems)
        raise (StoreUnavailableError if without_redis else ToolspanError)("; ".join(one.text for one in problems))


def _unreadable(url: str) -> str | None:
    """Say why nothing can ever answer at *url*; None if something could."""
    try:
        parts = urlsplit(url)
        if parts.scheme in REDIS_SCHEMES:
            Connection.to(url)
            return None
        host, port = parts.hostname, parts.port
    except (SettingsError, ValueError) as exc:
        return str(exc)
    if parts.scheme not in {"http", "https", "tcp"}:
        return f"give a {', '.join(REDIS_SCHEMES)}, http, https or tcp URL"
    if not host:
        return "it names no host"
    if parts.scheme == "tcp" and port is None:
        return "it names no port"
    return None


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why something does not answer; *of_redis* if it is a Redis, and nobody is there."""

    text: str
    of_redis: bool


async def _wait(url: str, deadline: float) -> _Problem | None:
    while True:
        # The last answer gets less time, but some, so that who has none to wait asks once.
        seconds = min(_ANSWER_SECONDS, max(_POLL_SECONDS, deadline - time.monotonic()))
        problem = await _problem(url, seconds)
        if problem is None:
            return None
        if time.monotonic() > deadline:
            text = f"{without_password(url)} does not answer: {_without_password_of(url, problem.text)}"
            return replace(problem, text=text)
        await asyncio.sleep(_POLL_SECONDS)


def _without_password_of(url: str, problem: str) -> str:
    """Hide the password of *url* in what a library says of it: that of HTTP takes it for a port."""
    password = urlsplit(url).netloc.rpartition("@")[0].partition(":")[2]
    return problem.replace(password, "***") if password else problem


async def _problem(url: str, seconds: float) -> _Problem | None:
    """Say what is wrong with *url*; None if it answers within *seconds*."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(seconds):
            if parts.scheme in REDIS_SCHEMES:
                await _ping(url)
            elif parts.scheme == "tcp":
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.close()
            else:
                await asyncio.to_thread(_get, url, seconds)
    except TimeoutError:
        return _Problem(f"no answer within {seconds:.1g} s", parts.scheme in REDIS_SCHEMES)
    except (StoreError, HTTPException, OSError, ValueError) as exc:
        return _Problem(str(exc), isinstance(exc, StoreUnavailableError))
    return None


async def _ping(url: str) -> None:
    connection = Connection.to(url)
    try:
        await Inspector(connection, Keys()).ping()
    finally:
        await connection.aclose()


def _get(url: str, seconds: float) -> None:
    # Only http and https come here, see wait_for.
    with urlopen(Request(url), timeout=seconds):  # noqa: S310
        return
