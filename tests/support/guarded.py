"""A server that lets nobody in without a password."""

from __future__ import annotations

import socket

from toolspan.testing import EmbeddedServer


class Guarded(EmbeddedServer):
    """To ask who one is, is an answer as well."""

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.folder / "sock"))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"-NOAUTH")
            except OSError:
                return False
