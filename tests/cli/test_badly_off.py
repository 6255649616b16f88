"""Commands where Redis is empty, where something else lies under our keys, and where our user may do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.cli.commands import Ended, Shell
    from tests.support.plane import Plane
    from toolspan.testing import EmbeddedServer

LOOK: Final = (
    *("status", "status --json", "consumers", "pending --parked", "explain 1-0", "explain some-call", "tools"),
    *("pause --list", "dlq ls", "dlq ls --group-by fingerprint", "dlq show 1-0", "dlq export", "monitor"),
)
DO: Final = (
    *("pause echo", "resume echo", "drain w-1-aa", "dlq replay 1-0", "dlq replay --all-matching --tool x"),
    *("dlq discard 1-0 --why x", "dlq purge --older-than 1d --why x"),
)
KEYS: Final = (
    *("calls", "dead_letters", "workers", "parked", "attempts", "events", "streams", "audit", "control", "monitor"),
)


def _failed_plainly(ends: dict[str, Ended], hint: str) -> None:
    assert {command: done.code for command, done in ends.items()} == dict.fromkeys(ends, 1)
    for done in ends.values():
        assert "Traceback" not in done.err
        assert done.err.splitlines()[-1].startswith("toolspan: Redis refused: ")
        assert done.err.endswith(hint + "\n")


async def test_something_else_under_our_keys_is_one_sentence(plane: Plane, shell: Shell) -> None:
    for key in KEYS:
        await plane.redis.lpush(getattr(plane.keys, key), "x")
    ends = await shell.each(*LOOK, *DO)
    left = {key: await plane.redis.type(getattr(plane.keys, key)) for key in KEYS}
    await plane.redis.delete(*(getattr(plane.keys, key) for key in KEYS))

    _failed_plainly(ends, "`toolspan doctor` names the key under which something else lies")
    assert set(left.values()) == {b"list"}


@pytest.mark.parametrize("rules", [("~*", "&*", "-@all", "+ping"), ("~other:*", "&*", "+@all")], ids=str)
async def test_a_user_who_may_do_nothing_is_told_so(
    plane: Plane, shell: Shell, server: EmbeddedServer, rules: tuple[str, ...]
) -> None:
    await plane.redis.execute_command("ACL SETUSER", "small", "reset", "on", ">secret", *rules)
    url = f"redis://small:secret@127.0.0.1:{server.port}/0"
    ends = await shell.each(*LOOK, *DO, TOOLSPAN_REDIS_URL=url)
    await plane.redis.execute_command("ACL DELUSER", "small")

    _failed_plainly(ends, "`toolspan doctor` says what this user lacks")
    assert "secret" not in "".join(done.err + done.out for done in ends.values())


async def test_an_empty_redis_stays_empty_when_it_is_looked_at(shell: Shell, plane: Plane) -> None:
    ends = await shell.each(*(command for command in LOOK if command != "monitor"))
    left = await plane.redis.keys(f"{plane.keys.prefix}:*")

    nothing = {"explain 1-0", "explain some-call", "dlq show 1-0"}
    assert {command for command, done in ends.items() if done.code} == nothing
    assert not [done for done in ends.values() if "Traceback" in done.err]
    assert left == []
