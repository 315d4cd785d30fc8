"""A fake internet: names resolve as a test says, and every connect() of the process is recorded.

Connections to addresses in `routes` reach a local port, those to loopback reach loopback, all others are refused.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from blip2_serve.images.remote.addresses import Address


class Connections:
    """Records connections in `made`; `routes` maps addresses to local ports."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []
        self.routes: dict[str, int] = {}

    @property
    def hosts(self) -> list[str]:
        """The addresses connected to, in order."""
        return [host for host, _ in self.made]

    @contextmanager
    def watched(self) -> Iterator["Connections"]:
        """Record the connections of sockets, below asyncio and everything else."""
        with pytest.MonkeyPatch.context() as patch:
            connect = socket.socket.connect

            def noting(sock: socket.socket, address: Any) -> None:
                host, port = address[0], address[1]
                self.made.append((host, port))
                if host in self.routes:
                    return connect(sock, ("127.0.0.1", self.routes[host]))
                if ip_address(host).is_loopback:
                    return connect(sock, address)
                raise ConnectionRefusedError

            patch.setattr(socket.socket, "connect", noting)
            yield self


class Names:
    """A resolver whose answers change: each name has a list of answers, the last of which stays."""

    def __init__(self, **answers: list[str]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        answers = self._answers.get(host.replace(".", "_"))
        if answers is None:
            raise socket.gaierror(-2, "Name or service not known")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(address) for address in answer.split()]
