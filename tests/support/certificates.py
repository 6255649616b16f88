"""An authority of our own, and certificates that it signs; made with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """An authority, a server's certificate for localhost that it signed, and a stranger's authority."""

    authority: Path
    certificate: Path
    key: Path
    stranger: Path

    def options(self, port: int) -> list[str]:
        """What a server is started with, to speak TLS on *port*, and ask for no certificate."""
        return [
            "--tls-port", str(port), "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key),
            "--tls-ca-cert-file", str(self.authority), "--tls-auth-clients", "optional",
        ]  # fmt: skip


def made_in(folder: Path) -> Certificates:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    for name in ("authority", "stranger"):
        _run(openssl, folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    _run(openssl, folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")  # fmt: skip
    _run(openssl, folder, "x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
         "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return Certificates(*(folder / name for name in ("authority.pem", "server.pem", "server.key", "stranger.pem")))


def _run(openssl: str, folder: Path, *arguments: str) -> None:
    subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)
