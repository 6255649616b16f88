"""Bearer tokens: who may call what, over a real socket, and a file that changes meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.gateway.gateways import running_gateway
from tests.support.eventually import eventually
from toolspan import SettingsError
from toolspan.gateway.tokens import Tokens
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.gateway.answerer import Answerer
    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import Recorder

ALL = Registry.load(["tests.support.toolbox"])
ADA, BOB = "ada-secret-token", "bob-secret-token"


def _entry(name: str, token: str, *tools: str) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "tools": list(tools)}


BOTH = [_entry("ada", ADA, "*"), _entry("bob", BOB, "echo", "marked*")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(BOTH))
    return path


@asynccontextmanager
async def _gateway(settings: Settings, recorder: Recorder, file: Path) -> AsyncIterator[httpx.AsyncClient]:
    protected = settings.model_copy(update={"tokens_file": file})
    async with (
        running_gateway(protected, recorder) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
    ):
        yield http


async def _call(http: httpx.AsyncClient, tool: str, token: str | None = None, **body: Any) -> httpx.Response:
    return await http.post(f"/v1/tools/{tool}/calls", json=body, headers=_as(token))


def _as(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["type"]


async def test_the_name_of_a_token_becomes_the_principal_of_the_call(
    plane: Plane, recorder: Recorder, file: Path
) -> None:
    async with _gateway(plane.settings, recorder, file) as http, running_worker(ALL, settings=plane.settings):
        answer = await _call(http, "about", ADA)

    assert answer.json()["result"]["principal"] == "ada"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer nobody", f"Basic {ADA}", ADA, f"Bearer {ADA}x", "Bearer é"]
)
async def test_who_has_no_token_is_told_to_bring_one(
    settings: Settings, recorder: Recorder, worker: Answerer, file: Path, header: str | None
) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    async with _gateway(settings, recorder, file) as http:
        answers = [
            await http.request(method, path, headers=headers)
            for method, path in (("POST", "/v1/tools/echo/calls"), ("GET", "/v1/tools"), ("GET", "/v1/calls/x"))
        ]

    assert {_refusal(answer) for answer in answers} == {(401, "unauthorised")}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert worker.seen == []


async def test_a_token_is_good_for_its_tools_only(
    settings: Settings, recorder: Recorder, worker: Answerer, file: Path
) -> None:
    async with _gateway(settings, recorder, file) as http:
        answers = {
            tool: (await _call(http, tool, BOB)).status_code for tool in ("echo", "marked.sync", "other", "echo2")
        }
        refused = await _call(http, "other", BOB)

    assert answers == {"echo": 200, "marked.sync": 200, "other": 403, "echo2": 403}
    assert _refusal(refused) == (403, "unauthorised")
    assert {fields["tool"] for fields in worker.seen} == {"echo", "marked.sync"}


async def test_tools_are_listed_for_who_may_call_them(plane: Plane, recorder: Recorder, file: Path) -> None:
    async with _gateway(plane.settings, recorder, file) as http, running_worker(ALL, settings=plane.settings):
        listed = {
            token: {tool["name"] for tool in (await http.get("/v1/tools", headers=_as(token))).json()["tools"]}
            for token in (ADA, BOB)
        }

    assert listed[ADA] == set(ALL.names)
    assert listed[BOB] == {"echo", "marked", "marked.sync"}


async def test_a_call_is_known_to_who_sent_it_and_to_nobody_else(
    settings: Settings, recorder: Recorder, worker: Answerer, file: Path
) -> None:
    async with _gateway(settings, recorder, file) as http:
        call_id = (await _call(http, "echo", ADA, detach=True)).json()["id"]
        await eventually(lambda: worker.seen, because="the call is sent")
        mine = await http.get(f"/v1/calls/{call_id}", headers=_as(ADA))
        not_mine = await http.get(f"/v1/calls/{call_id}", headers=_as(BOB))

    assert mine.status_code in {200, 202}
    assert _refusal(not_mine) == (404, "unknown_call")


async def test_keys_of_two_principals_have_nothing_to_do_with_each_other(
    settings: Settings, recorder: Recorder, file: Path, plane: Plane
) -> None:
    async with _gateway(settings, recorder, file) as http, running_worker(ALL, settings=plane.settings):
        ids = {(await _call(http, "echo", token, idempotency_key="k")).json()["id"] for token in (ADA, BOB, ADA)}

    assert len(ids) == 2


async def test_what_tells_of_the_gateway_itself_stays_open(settings: Settings, recorder: Recorder, file: Path) -> None:
    async with _gateway(settings, recorder, file) as http:
        answers = [await http.get(path) for path in ("/livez", "/readyz", "/openapi.json")]

    assert {answer.status_code for answer in answers} == {200}


async def test_a_file_that_changes_counts_at_once_and_a_broken_one_changes_nothing(
    settings: Settings, recorder: Recorder, worker: Answerer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    monkeypatch.setattr(recorder.probe, "tokens_refused", refused.append)

    def replace(text: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(text)
        new.replace(file)

    async def allowed() -> tuple[bool, bool]:
        answers = [await _call(http, "echo", token) for token in (ADA, BOB)]
        return answers[0].status_code == 200, answers[1].status_code == 200

    async with _gateway(settings, recorder, file) as http:
        assert await allowed() == (True, True)
        replace(json.dumps(BOTH[1:]))
        assert await allowed() == (False, True)
        replace("[{")
        assert await allowed() == (False, True)
        assert await allowed() == (False, True)
        file.unlink()  # noqa: ASYNC240 - the test is what blocks
        assert await allowed() == (False, True)
        replace(json.dumps(BOTH[:1]))
        assert await allowed() == (True, False)

    assert len(refused) == 2
    assert "is not JSON" in refused[0]
    assert "cannot be read" in refused[1]
    assert worker.seen


async def test_a_token_is_written_nowhere(
    plane: Plane,
    recorder: Recorder,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with _gateway(plane.settings, recorder, file) as http, running_worker(ALL, settings=plane.settings):
        await _call(http, "fails", ADA, idempotency_key="k")
        await _call(http, "echo", f"{BOB}-wrong")
        answers = [await _call(http, "other", BOB), await _call(http, "about", ADA, idempotency_key="k")]
        records = [await plane.redis.get(key) for key in await plane.redis.keys(f"{plane.keys.prefix}:once:*")]
    spans = [span.to_json() for span in recorder.spans]

    told = "\n".join([*spans, repr(recorder.events), repr(records), *(a.text for a in answers), *capsys.readouterr()])
    assert "ada" in told
    assert ADA not in told
    assert BOB not in told


BAD_FILES = [
    ("{", "is not JSON"),
    ("\xff", "is not JSON"),
    ("{}", "list"),
    ('[{"name": "a"}]', "entry 1, sha256"),
    (json.dumps([_entry("a", "t", "*"), {**_entry("b", "u"), "sha256": ADA}]), "entry 2, sha256"),
    (json.dumps([{**_entry("a", "t"), "tools": "*"}]), "entry 1, tools"),
    (json.dumps([_entry("a", "t", "a[b]")]), "entry 1, tools"),
    (json.dumps([{**_entry("a", "t"), "token": ADA}]), "entry 1, token"),
    (json.dumps([_entry("", "t")]), "entry 1, name"),
    (json.dumps([_entry("a\0b", "t")]), "entry 1, name"),
    (json.dumps([_entry("a", "t"), _entry("b", "t")]), "the same sha256"),
]


@pytest.mark.parametrize(("text", "told"), BAD_FILES)
def test_a_file_that_cannot_be_used_is_a_clear_error(file: Path, recorder: Recorder, text: str, told: str) -> None:
    file.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError) as raised:
        Tokens(file, recorder.probe)

    assert str(raised.value).startswith(f"TOOLSPAN_TOKENS_FILE, {file}: ")
    assert told in str(raised.value)
    # Somebody may have written the token itself.
    assert ADA not in str(raised.value)


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path, recorder: Recorder) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        Tokens(tmp_path / "none.json", recorder.probe)


def test_a_file_of_nobody_lets_nobody_in(file: Path, recorder: Recorder) -> None:
    file.write_text("[]")
    tokens = Tokens(file, recorder.probe)

    with pytest.raises(Exception, match="not known"):
        tokens.holder(f"Bearer {ADA}")


async def test_with_tokens_others_than_ourselves_are_let_in_without_a_warning(
    settings: Settings, recorder: Recorder, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolspan.gateway.server._is_loopback", lambda _: False)
    protected = settings.model_copy(update={"tokens_file": file})
    async with running_gateway(protected, recorder) as gateway:
        pass

    assert "unprotected" not in dict(gateway.told)


def test_only_the_state_of_the_file_decides_whether_it_is_read(file: Path, recorder: Recorder) -> None:
    tokens = Tokens(file, recorder.probe)
    about = file.stat()
    file.write_text(file.read_text().replace("ada", "eve"))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert tokens.holder(f"Bearer {ADA}").name == "ada"
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))

    assert tokens.holder(f"Bearer {ADA}").name == "eve"
