"""The rules for each role: the whole product works with them, and with nothing less or more."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError

import toolspan.store
from tests.cli.commands import Shell
from tests.conftest import binary_of, settings_for
from tests.support.eventually import eventually
from tests.support.guarded import Guarded
from tests.support.plane import Plane
from tests.support.used import Sent, in_script, keys_of
from toolspan.codec import Codec, Limits
from toolspan.errors import NotPermittedError, RedisUnavailable, ToolError
from toolspan.gateway.client import ToolClient
from toolspan.model import ToolCall
from toolspan.monitor.reporter import Reporter
from toolspan.monitor.retention import Retention
from toolspan.operate.answers import Answers
from toolspan.operate.control import Operator
from toolspan.operate.doctor import examine
from toolspan.operate.status import status
from toolspan.settings import Settings
from toolspan.store import Connection, DeadLetterStore, EntryReader, Inspector
from toolspan.store.permissions import ROLES, acl_file, users
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from toolspan.worker.worker import Worker

ALL = Registry.load(["tests.support.toolbox"])
LUA = Path(toolspan.store.__file__).parent / "lua"
PREFIX = "acl"


# What a script has, and does not do for that role.
LEFT_OUT = {"gateway": {("xrange", "dlq")}}


@pytest.fixture
def guarded(server_name: str, tmp_path: Path) -> Iterator[Guarded]:
    """A server that knows our users, and somebody who may look at everything."""
    rules = acl_file(PREFIX)
    for user in users(PREFIX):
        rules = rules.replace(f"#sha256-of-the-password-of-{user.name}", f">of-{user.role}")
    path = tmp_path / "users.acl"
    path.write_text(rules + "user admin on >of-admin ~* &* +@all\n")
    with Guarded(binary=binary_of(server_name), tcp=True, options=["--aclfile", str(path)]) as running:
        yield running


def _url(server: Guarded, role: str) -> str:
    user = role if role == "admin" else f"toolspan-{role}"
    return f"redis://{user}:of-{role}@127.0.0.1:{server.port}/0"


def _settings(server: Guarded, role: str, **fields: Any) -> Settings:
    short = {"lease_ms": 1_000, "reap_after_ms": 2_000, "prefix": PREFIX, "wait_replicas": 0}
    return settings_for(_url(server, role), **{**short, **fields})


@asynccontextmanager
async def _client(server: Guarded, role: str) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis.from_url(_url(server, role), protocol=2, driver_info=None)
    yield client
    await client.aclose()


async def _report(settings: Settings, *, purges: bool = True) -> None:
    """One election, one look at the group, one purge, and away."""
    connection = Connection.to(settings.redis_url)
    recorder = Recorder(settings.keys)
    inspector = Inspector(connection, settings.keys)
    await inspector.workers()
    retention = Retention(DeadLetterStore(connection, settings.keys), recorder.probe, days=1) if purges else None
    reporter = Reporter(
        inspector, recorder.probe, me="r", lease_ms=settings.lease_ms, retention=retention, deputy=not purges
    )
    until = asyncio.Event()
    running = asyncio.create_task(reporter.run(until=until))
    await eventually(lambda: recorder.points("toolspan.dlq.length"), because="the group is measured")
    until.set()
    await running
    assert not [about for name, about in recorder.events if name == "toolspan.redis.down"]
    await connection.aclose()


async def _work(server: Guarded, plane: Plane, folder: Path) -> Recorder:
    """Everything that can become of a call, and of a worker."""
    worker, gateway = _settings(server, "worker"), _settings(server, "gateway")
    recorder = Recorder(worker.keys)
    odd = f"{PREFIX}:reply:on-purpose"
    await plane.redis.set(odd, "no stream")
    await plane.append("echo", "of a dead worker")
    await plane.append("echo", "that kills")
    await plane.append("echo", "whose body goes")
    orphans = await plane.orphan()
    await plane.redis.execute_command(
        "XCLAIM", worker.keys.calls, worker.keys.group, "gone-1-0000", 0, orphans[1], "RETRYCOUNT", 9, "IDLE", 99_000
    )
    await plane.redis.xdel(worker.keys.calls, orphans[2])
    await plane.redis.execute_command("XGROUP", "CREATECONSUMER", worker.keys.calls, worker.keys.group, "idle-1-0000")
    await plane.redis.zadd(worker.keys.workers, {"idle-1-0000": 1})
    # Letters that are old enough to be purged, for each that purges.
    await plane.redis.execute_command("XADD", worker.keys.dead_letters, "1-1", "a", "b")
    await _report(_settings(server, "monitor"))
    await _report(_settings(server, "gateway"), purges=False)
    await plane.redis.execute_command("XADD", worker.keys.dead_letters, "2-1", "a", "b")
    async with (
        ToolClient(gateway, probe=Recorder(gateway.keys).probe) as client,
        running_worker(ALL, settings=worker, probe=recorder.probe) as serving,
    ):
        assert (await client.call("echo", {"text": "x"})).result == "x"
        for _ in range(2):
            assert (await client.call("echo", {"text": "y"}, idempotency_key="k")).result == "y"
        joined = [
            client.call("marked", {"path": str(folder / "joined"), "seconds": 1}, idempotency_key="j") for _ in range(2)
        ]
        assert [reply.result for reply in await asyncio.gather(*joined)] == [1, 1]
        assert (await client.call("once", {"path": str(folder / "once")})).result == 1
        assert (await client.call("flaky", {"path": str(folder / "flaky"), "good_from": 3})).result == 3
        with pytest.raises(ToolError):
            await client.call("fails")
        for limited in ("scarce", "measured"):
            await client.call(limited, {"path": str(folder / limited)})
        given_up = folder / "given up"
        leaving = asyncio.create_task(client.call("marked", {"path": str(given_up), "seconds": 60}))
        await eventually(given_up.exists, because="it runs")
        leaving.cancel()
        assert (await client.call("tells", {"path": str(folder / "tells"), "steps": 2})).result == 2
        await client.send("fails")
        await plane.add("tool", "echo", "v", "1")
        call = ToolCall("unwritable", "echo", {}, reply_to=odd)
        await plane.add(*plane.codec.encode_call(call))
        await eventually(client.tools_and_pauses, because="its tools are known")
        operator = Connection.to(_url(server, "operator"))
        await eventually(Inspector(operator, worker.keys).tools, because="its tools are known")
        await _inspect(operator, worker)
        await _steer(operator, plane, recorder, client, serving)
        await _report(worker)
        await eventually(lambda: _done(plane), because="every call has its end")
        await eventually(lambda: _reaped(plane), because="dead consumers are reaped")
        steering = Operator(operator, worker.keys, recorder.probe, who="me")
        await steering.drain(serving.consumer, why="the end")
        await steering.gone(serving.consumer, within=10)
        await operator.aclose()
    await plane.redis.delete(odd)
    return recorder


async def _steer(connection: Connection, plane: Plane, recorder: Recorder, client: ToolClient, serving: Worker) -> None:
    """Pause a tool, and let its call run again."""
    steering = Operator(connection, plane.keys, recorder.probe, who="me")
    assert (await steering.served("echo"), await steering.stream_of("echo")) == (1, plane.keys.stream)
    await steering.pause("echo", why="a test")
    heard = serving._engine._roles.controls
    await eventually(lambda: "echo" in heard.paused, because="the worker hears of it")
    entry_id = await plane.append("echo", "waits")

    async def parked() -> bool:
        return (await plane.pending()).get(entry_id, ("", 0))[0] == "~parked"

    await eventually(parked, because="the call waits")

    async def told() -> bool:
        return [tool.name for tool, paused in await client.tools_and_pauses() if paused] == ["echo"]

    await eventually(told, because="callers are told")
    await steering.resume("echo", why="a test")
    await eventually(lambda: plane.reply("waits"), because="it runs")


async def _inspect(connection: Connection, settings: Settings) -> None:
    """Everything that operators look at."""
    reader, inspector = EntryReader(connection, settings.keys), Inspector(connection, settings.keys)
    owners = await reader.holders()
    await reader.waiting()
    await reader.dead_letters()
    for owner in owners:
        await reader.held_by(owner, count=1)
    await reader.oldest_held(owners)
    await reader.bodies(["1-1"])
    await reader.glance("1-1")
    await reader.calls_with("x", scan=10)
    await reader.dead_letters_with("x", scan=10)
    assert await reader.events_of("1-1") == []
    assert await reader.audits_of("retention") == []
    await inspector.registrations()
    await status(connection, settings)
    found = await examine(connection, settings, roles=["operator"])
    assert {one.level for one in found if one.check == "permissions of the operator"} == {"ok"}
    # That is what only CONFIG GET tells.
    assert [one.check for one in found if one.level == "unknown"] == ["clients"]


async def _done(plane: Plane) -> bool:
    return await plane.left() == 0 and await plane.pending() == {}


async def _reaped(plane: Plane) -> bool:
    return not {"idle-1-0000", "gone-1-0000"} & {*await plane.consumers(), *await plane.beating()}


async def _operate(server: Guarded, shell: Shell, plane: Plane) -> None:
    settings = _settings(server, "operator")
    letters = await plane.dead_letters()
    assert {letter.reason for letter in letters} >= {"malformed", "worker_lost", "reply_failed", "tool_failed"}
    failed = next(letter.id for letter in letters if letter.reason == "tool_failed")
    lost = next(letter.id for letter in letters if letter.reason == "worker_lost")
    for command, ended in (
        await shell.each(
            "status",
            f"dlq replay {failed}",
            f"dlq discard {lost} --why 'a test'",
        )
    ).items():
        assert ended.code == 0, (command, ended)
    [replayed] = [entry["entry"] for entry in await _audited(plane) if entry["action"] == "replay"]
    operator = Connection.to(settings.redis_url)
    told = EntryReader(operator, settings.keys)
    assert await told.audits_of(replayed)
    assert await told.events_of(replayed)
    await operator.aclose()
    connection = Connection.to(settings.redis_url)
    store = DeadLetterStore(connection, settings.keys)
    assert [entry async for entry in store.entries()]
    [again] = [letter for letter in await plane.dead_letters() if letter.reason == "malformed"]
    assert await store.replay(again, call_id="again", fields=["tool", "echo"], who="me")
    assert not await store.discard("1-1", who="me", why="none")
    await plane.redis.execute_command("XADD", settings.keys.dead_letters, "*", "a", "b")
    last = await store.last_id()
    assert last
    assert [count async for count in store.purge(through=last, who="me", why="w", matching="m")]
    assert await store.last_id() is None
    codec = Codec(settings.keys, Limits(1000, 1000, 10))
    async with Answers(connection, settings.keys, codec, Recorder(settings.keys).probe) as answers:
        await plane.redis.execute_command("XADD", answers.reply_to, "*", "a", "b")
        await eventually(lambda: _empty(plane, answers.reply_to), because="it is read and trimmed")
    await connection.aclose()


async def _audited(plane: Plane) -> list[dict[str, str]]:
    raw: Any = await plane.redis.execute_command("XRANGE", plane.keys.audit, "-", "+")
    texts = [[part.decode() for part in fields] for _, fields in raw]
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in texts]


async def _empty(plane: Plane, key: str) -> bool:
    return bool(await plane.redis.xlen(key) == 0)


def _granted(role: str) -> set[tuple[str, str]]:
    return {(command, kind) for kind, commands in ROLES[role].keys.items() for command in commands.split()}


async def test_the_whole_product_works_with_the_rules_of_its_roles_and_needs_all_of_them(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent = Sent(monkeypatch, PREFIX, LUA)
    admin = _settings(guarded, "admin")
    connection = Connection.to(admin.redis_url)
    plane = Plane(admin, connection.commands, connection)
    await _work(guarded, plane, tmp_path)
    shell = Shell.of(tmp_path, _settings(guarded, "operator"))
    await _operate(guarded, shell, plane)
    denied: Any = await plane.redis.execute_command("ACL LOG")
    await connection.aclose()

    missing, unneeded = {}, {}
    for role in ROLES:
        user = f"toolspan-{role}"
        scripts = sent.scripts.get(user, set())
        used = sent.pairs.get(user, set()).union(*(in_script(name, LUA) for name in scripts)) - LEFT_OUT.get(
            role, set()
        )
        keys = set().union(*map(keys_of, scripts))
        given, handed = _granted(role), set(ROLES[role].scripted.split())
        missing[role] = (used - given, keys - handed, sent.free[user] - set(ROLES[role].free.split()))
        unneeded[role] = (given - used, handed - keys)
        heard = {("subscribe", kind) for kind in ROLES[role].subscribes.split()}
        heard |= {("psubscribe", kind) for kind in ROLES[role].overhears.split()}
        assert sent.heard.get(user, set()) == heard, role
    # What the doctor asks for it can do without.
    missing["operator"][2].discard("config|get")
    assert missing == dict.fromkeys(ROLES, (set(), set(), set()))
    assert unneeded == dict.fromkeys(ROLES, (set(), set()))
    # Scripts swallow some errors: the server remembers each refusal.
    assert {entry["object"] for entry in denied} == {"config|get"}


REFUSED = [
    ("worker", "FLUSHALL"), ("worker", "CONFIG GET dir"), ("worker", "ACL LIST"), ("worker", "KEYS *"),
    ("worker", "SET other x"), ("worker", "DEL acl:stream:tools"), ("worker", "XRANGE other - +"),
    ("worker", "XREAD STREAMS acl:reply:g 0"), ("worker", "HSET acl:control:tools paused x"),
    ("worker", "SET acl:cancel:x 1"), ("worker", "GET acl:schema:x"), ("worker", "EVAL return 0"),
    ("worker", "PUBLISH acl:control:tools x"), ("worker", "SUBSCRIBE other"), ("worker", "CLIENT KILL TYPE normal"),
    ("gateway", "FLUSHDB"), ("gateway", "XACK acl:stream:tools acl:tools 1-1"), ("gateway", "XRANGE acl:dlq:tools - +"),
    ("gateway", "XREAD STREAMS acl:dlq:tools 0"), ("gateway", "XREAD STREAMS acl:stream:tools 0"),
    ("gateway", "XADD acl:dlq:tools * a b"),
    ("gateway", "XADD acl:audit:tools * a b"), ("gateway", "XTRIM acl:stream:tools MAXLEN 0"),
    ("gateway", "DEL acl:stream:tools"), ("gateway", "ZADD acl:workers:tools 1 x"),
    ("gateway", "HSET acl:worker:x a b"), ("gateway", "XADD acl:reply:g * a b"), ("gateway", "SET other 1"),
    ("gateway", "XREADGROUP GROUP acl:tools x STREAMS acl:stream:tools >"), ("gateway", "SUBSCRIBE acl:control:x"),
    ("monitor", "FLUSHALL"), ("monitor", "XADD acl:stream:tools * a b"), ("monitor", "XDEL acl:stream:tools 1-1"),
    ("monitor", "XACK acl:stream:tools acl:tools 1-1"), ("monitor", "HSET acl:worker:x a b"),
    ("monitor", "XADD acl:dlq:tools * a b"), ("monitor", "XREAD STREAMS acl:reply:g 0"), ("monitor", "GET other"),
    ("operator", "FLUSHALL"), ("operator", "CONFIG SET dir /"), ("operator", "XACK acl:stream:tools acl:tools 1-1"),
    ("operator", "XDEL acl:stream:tools 1-1"), ("operator", "DEL acl:audit:tools"), ("operator", "DEL acl:dlq:tools"),
    ("operator", "ZREM acl:parked:tools 1-1"), ("operator", "HDEL acl:attempts:tools 1-1"),
    ("operator", "HSET acl:worker:x a b"),
    ("operator", "XADD acl:reply:g * a b"), ("operator", "XTRIM acl:audit:tools MAXLEN 0"),
]  # fmt: skip


async def test_each_role_is_refused_what_is_not_its_own(guarded: Guarded) -> None:
    allowed = []
    for role, command in REFUSED:
        async with _client(guarded, role) as client:
            words = ("EVAL", "return 0", 0) if command.startswith("EVAL") else command.split()
            try:
                await client.execute_command(*words)
            except NoPermissionError:
                continue
            allowed.append((role, command))

    assert allowed == []


async def test_a_stranger_and_the_default_user_are_let_in_to_nothing(guarded: Guarded) -> None:
    client = redis.asyncio.Redis(port=guarded.port, protocol=2, driver_info=None)
    with pytest.raises(redis.exceptions.AuthenticationError):
        await client.ping()
    await client.aclose()


def test_no_server_starts_with_the_placeholders_for_passwords(server_name: str, tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text(acl_file("sg"))
    started = Guarded(binary=binary_of(server_name))
    socket = str(tmp_path / "socket")
    command = [started._binary, "--port", "0", "--unixsocket", socket, "--aclfile", str(tmp_path / "users.acl")]
    ended = subprocess.run(command, capture_output=True, timeout=20, check=False)
    started.stop()

    assert ended.returncode == 1
    assert b"password hash must be exactly 64 characters" in ended.stdout + ended.stderr


async def test_who_may_not_do_what_is_told_and_nothing_is_tried_for_ever(guarded: Guarded, tmp_path: Path) -> None:
    as_gateway = Shell.of(tmp_path, _settings(guarded, "gateway"))
    as_monitor = Shell.of(tmp_path, _settings(guarded, "monitor"))
    worker = await as_gateway.run("worker", "--tools", "toolspan.tools.builtin")
    call = await as_monitor.run("call", "echo", "{}", "--timeout", "20")
    settings = _settings(guarded, "monitor")
    async with ToolClient(settings, probe=Recorder(settings.keys).probe) as client:
        with pytest.raises(RedisUnavailable) as raised:
            await client.call("echo", timeout=60)
    listed = await as_gateway.run("dlq", "ls")

    for ended, user in ((worker, "gateway"), (call, "monitor"), (listed, "gateway")):
        assert ended.code == 1, ended
        assert f"the user toolspan-{user} is not permitted to do this" in ended.err, ended
    assert isinstance(raised.value.__cause__, NotPermittedError)
    assert not raised.value.maybe_accepted


async def test_a_worker_that_may_not_read_does_not_say_that_it_serves(guarded: Guarded, tmp_path: Path) -> None:
    async with _client(guarded, "admin") as admin:
        rules = next(user.rules for user in users(PREFIX) if user.role == "worker")
        without = [rule.replace("+xreadgroup ", "") for rule in rules]
        await admin.execute_command("ACL SETUSER", "toolspan-worker", *without, "on", ">of-worker")
    shell = Shell.of(tmp_path, _settings(guarded, "worker"))
    ended = await shell.run("worker", "--tools", "toolspan.tools.builtin")

    assert ended.code == 1
    assert "xreadgroup" in ended.err
    assert "worker.started" not in ended.err


async def test_the_command_prints_the_rules_for_a_prefix(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {})
    plain = await shell.run("acl", "--prefix", "{sg}")
    machines = await shell.run("acl", "--json", TOOLSPAN_PREFIX="other")

    assert plain.out == acl_file("{sg}")
    assert [user["user"] for user in machines.json] == [f"toolspan-{role}" for role in ROLES]
    assert all("~sg:" not in rule for user in machines.json for rule in user["rules"])
    assert "(+type +zrange %R~other:workers:*)" in machines.json[0]["rules"]


def test_the_file_in_the_repository_is_what_the_command_prints() -> None:
    assert Path("deploy/acl/toolspan.acl").read_text() == acl_file("sg")
