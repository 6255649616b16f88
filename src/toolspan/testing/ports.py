"""Ports that are ours from when they are chosen, not only from when a server of ours listens there."""

from __future__ import annotations

import socket
import sys


class ReservedPort:
    """A free loopback port: until it is released, whoever asks the kernel for any port is given another.

    It is held by a socket that is bound and does not listen, which servers may bind beside: they all set SO_REUSEADDR.
    That is so on Linux; elsewhere the port was free a moment ago. See https://man7.org/linux/man-pages/man7/socket.7.html
    """

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.number: int = self._holder.getsockname()[1]
        if sys.platform != "linux":
            self.release()

    def release(self) -> None:
        """Let anybody have it."""
        self._holder.close()
