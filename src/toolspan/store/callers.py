"""What a caller does in Redis: append calls, read the replies, and let go of what it has read."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from toolspan.codec import decode_record
from toolspan.errors import BacklogFull, IdempotencyConflict, MalformedEntryError, StoreError
from toolspan.keys import Keys
from toolspan.model import Entry, Remembered
from toolspan.store.appends import Appends
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.model import OnceKey
    from toolspan.store.connection import Connection

_PAGE: Final = 1_000
_RETRY_AFTER: Final = (1.0, 3.0)
"""Seconds after which a refused caller may ask again: soon, for a backlog moves, but not all at once."""


class CallerStore:
    """Appends calls and reads one reply stream. Every method raises StoreError, and nothing else of Redis."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        *,
        gateway_id: str,
        block_ms: int,
        backlog_limit: int | None = None,
        once_ttl_seconds: int = 86_400,
        wait_replicas: int = 0,
    ) -> None:
        self.reply_to = keys.replies(gateway_id)
        self._calls = keys.calls
        self._keys = keys
        self._backlog_limit = backlog_limit
        self._once_ttl_ms = once_ttl_seconds * 1000
        self._redis = connection.commands
        self._reader = connection.private(block_ms=block_ms)
        self._block_ms = block_ms
        self._read: str | None = None
        """The last reply that was given, and is still to be deleted."""
        append = Script("append", replicas=wait_replicas)
        # What replicas have to confirm is on a connection alone.
        self._append = partial(append.run, self._redis) if wait_replicas else Appends(connection.private(), append).run
        self._append_if = Script("append_if", replicas=wait_replicas)
        self._cancel = Script("cancel")

    async def append(
        self, fields: Sequence[str | bytes], *, timeout_ms: int | None = None, to: str | None = None
    ) -> str:
        """Append a call and give its entry id. With *timeout_ms* it gets a deadline, by Redis' clock.

        *to* is the key of another stream than the one that we were made for.

        Is never sent twice: after StoreUnavailableError the call may have been accepted or not; after
        NotReplicatedError, a kind of that, it was, and a failover may lose it.

        Raises:
            BacklogFull: if too many calls wait already.
        """
        if self._backlog_limit is not None:
            _, found = await self._run_append_if(fields, timeout_ms, None, self._of(to))
            return cast("bytes", found).decode()
        with translated():
            entry_id: bytes = await self._append(
                stream=to or self._calls,
                timeout_ms="" if timeout_ms is None else timeout_ms,
                fields=fields,
            )
        return entry_id.decode()

    async def append_once(
        self, fields: Sequence[str | bytes], *, timeout_ms: int, call_id: str, key: OnceKey, to: str | None = None
    ) -> Remembered:
        """Append the call *call_id* with a deadline, or give the one that *key* stands for already.

        May be sent again after a lost answer: it gives the same call then.

        Raises:
            IdempotencyConflict: if that one has other arguments.
            BacklogFull: if too many calls wait already.
        """
        told, found = await self._run_append_if(fields, timeout_ms, key, self._of(to))
        if told == b"appended":
            return Remembered(call_id, found.decode(), None)
        try:
            known = decode_record(found)
        except MalformedEntryError as exc:
            message = f"the idempotency record {self._keys.once(key.digest)} cannot be read: {exc}"
            raise StoreError(message) from None
        if told == b"conflict":
            message = f"the idempotency key stands for the call {known.call_id}, which has other arguments"
            raise IdempotencyConflict(message)
        return known

    def _of(self, stream: str | None) -> Keys:
        """Give the keys of the stream whose key that is; those that we were made for, if it is None."""
        own = self._keys
        return own if stream is None else Keys(own.prefix, stream.removeprefix(f"{own.prefix}:stream:"))

    async def _run_append_if(
        self, fields: Sequence[str | bytes], timeout_ms: int | None, key: OnceKey | None, keys: Keys
    ) -> tuple[bytes, Any]:
        limit = self._backlog_limit
        with translated():
            told, found = await self._append_if.run(
                self._redis,
                stream=keys.calls,
                parked=keys.parked,
                record=self._keys.once(key.digest) if key else keys.calls,
                group=keys.group,
                limit="" if limit is None else limit,
                call_id=key.call_id if key else "",
                args=key.args if key else "",
                record_ttl_ms=self._once_ttl_ms,
                timeout_ms="" if timeout_ms is None else timeout_ms,
                fields=fields,
            )
        if told == b"full":
            seconds = random.uniform(*_RETRY_AFTER)  # noqa: S311
            message = f"the backlog is full: {found} of {limit} calls wait; try again in {seconds:.1f} s"
            raise BacklogFull(message, retry_after=seconds)
        return told, found

    async def cancel(self, call_id: str, *, ttl_ms: int, entry_id: str = "") -> None:
        """Have a call given up, wherever it is; who has not found it within *ttl_ms* does not hear of it any more."""
        with translated():
            await self._cancel.run(
                self._redis,
                cancel=self._keys.cancel(call_id),
                parked=self._keys.parked,
                ttl_ms=ttl_ms,
                entry_id=entry_id,
            )

    async def read_replies(self) -> list[Entry]:
        """Give the replies that lie there; wait for one as long as a block lasts.

        Those that were given by the last read are deleted before; if that fails, so does this.
        """
        commands: list[tuple[Any, ...]] = [
            ("XREAD", "COUNT", _PAGE, "BLOCK", self._block_ms, "STREAMS", self.reply_to, "0")
        ]
        if self._read is not None:
            ms, _, seq = self._read.partition("-")
            commands.insert(0, ("XTRIM", self.reply_to, "MINID", "=", f"{ms}-{int(seq) + 1}"))
            self._read = None
        with translated():
            answers = await self._reader.execute_commands(commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        found = answers[-1]
        entries = [Entry(entry_id.decode(), fields) for entry_id, fields in found[0][1]] if found else []
        if entries:
            self._read = entries[-1].id
        return entries

    async def forget_replies(self) -> None:
        """Delete the reply stream: nobody reads it any more."""
        with translated():
            await cast("Any", self._redis.execute_command("DEL", self.reply_to))
