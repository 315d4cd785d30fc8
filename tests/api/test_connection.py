"""Connections whose headers never end, come slowly or are long are closed; whoever reads nothing is let go."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.api import connection
from blip2_serve.api.connection import MAX_HEADER_BYTES, BoundedConnection
from support.serving import free_port

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/refused":
        await PlainTextResponse("0 bytes")(scope, receive, send)
        return
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@contextmanager
def serving(keep_alive_s: int = 5, **options: Any) -> Iterator[int]:
    port = free_port()
    protocol: Any = partial(BoundedConnection, keep_alive_s=lambda: keep_alive_s)
    config = uvicorn.Config(app, port=port, http=protocol, log_config=None, lifespan="off", **options)
    server = uvicorn.Server(config)
    thread = Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve with little patience."""
    monkeypatch.setattr(connection, "HEADERS_S", 0.3)
    with serving(keep_alive_s=2) as port:
        yield port


@contextmanager
def talking(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        yield peer


def heard(peer: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    parts = []
    try:
        while part := peer.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answer(peer: socket.socket) -> bytes:
    """Read one answer of `app`."""
    parts = b""
    while not parts.endswith(b" bytes"):
        part = peer.recv(65536)
        assert part, parts
        parts += part
    return parts


def send_slowly(peer: socket.socket, data: bytes, pause_s: float) -> None:
    for byte in data:
        try:
            peer.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(pause_s)


def test_headers_that_come_a_byte_at_a_time_are_answered_408(port: int) -> None:
    with talking(port) as peer:
        send_slowly(peer, GET * 2, 0.05)
        assert heard(peer).startswith(b"HTTP/1.1 408 ")


def test_headers_that_never_end_are_answered_431(port: int) -> None:
    with talking(port) as peer:
        peer.sendall(GET + b"X: " + b"x" * (2 * MAX_HEADER_BYTES))
        assert b"431 Request Header Fields Too Large" in heard(peer)


def test_a_connection_that_says_nothing_is_closed_without_a_word(port: int) -> None:
    with talking(port) as peer:
        began = time.monotonic()
        assert heard(peer) == b""
        assert 0.2 < time.monotonic() - began < 3


def test_the_second_request_of_a_connection_has_no_more_time_than_the_first(port: int) -> None:
    with talking(port) as peer:
        peer.sendall(GET + b"\r\n")
        assert answer(peer).startswith(b"HTTP/1.1 200 ")
        send_slowly(peer, GET * 2, 0.05)
        assert heard(peer).startswith(b"HTTP/1.1 408 ")


def test_bodies_and_long_but_bearable_headers_are_left_alone(port: int) -> None:
    size = 5 * MAX_HEADER_BYTES
    head = GET.replace(b"GET", b"POST") + f"X: {'x' * (MAX_HEADER_BYTES // 2)}\r\nContent-Length: {size}\r\n".encode()
    with talking(port) as peer:
        for _ in range(2):
            peer.sendall(head + b"\r\n" + bytes(size // 2))
            time.sleep(0.5)
            peer.sendall(bytes(size - size // 2))
            assert answer(peer).endswith(b"%d bytes" % size)


def test_a_body_that_was_answered_unread_is_read_slowly_and_the_next_request_is_answered(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNWANTED_BYTES_PER_S", 10_000_000)
    head = b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    with talking(port) as peer:
        peer.settimeout(30)
        peer.sendall(head)
        assert answer(peer).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        peer.sendall(bytes(20_000_000) + GET + b"\r\n")
        assert answer(peer).startswith(b"HTTP/1.1 200 ")
        assert 1 < time.monotonic() - began < 10


@pytest.mark.parametrize("path", [b"/", b"/refused"])
def test_an_idle_connection_is_kept_as_long_as_was_set(path: bytes) -> None:
    request = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    with serving(keep_alive_s=2) as port, talking(port) as peer:
        for _ in range(2):
            peer.sendall(request)
            time.sleep(0.2)
            peer.sendall(bytes(9))
            assert answer(peer).startswith(b"HTTP/1.1 200 ")
            time.sleep(1)
        began = time.monotonic()
        assert heard(peer) == b""
        assert 0.5 < time.monotonic() - began < 3


def test_what_uvicorn_was_told_goes_before_the_setting() -> None:
    with serving(keep_alive_s=60, timeout_keep_alive=1) as port, talking(port) as peer:
        peer.sendall(GET + b"\r\n")
        began = time.monotonic()
        assert heard(peer).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - began < 3


def test_a_rest_after_a_body_that_nobody_read_leaves_headers_no_more_time(port: int) -> None:
    with talking(port) as peer:
        peer.sendall(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        answer(peer)
        peer.sendall(bytes(9))
        time.sleep(0.6)  # longer than headers may take
        send_slowly(peer, GET * 2, 0.05)
        assert heard(peer).startswith(b"HTTP/1.1 408 ")


def test_the_rest_of_an_answered_body_has_an_end_and_so_has_the_silence_after_it(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNWANTED_S", 0.3)
    head = b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    for rest in (bytes(10), bytes(100)):
        with talking(port) as peer:
            peer.sendall(head)
            assert answer(peer).startswith(b"HTTP/1.1 200 ")
            began = time.monotonic()
            send_slowly(peer, rest, 0.01)
            assert heard(peer) == b""
            assert time.monotonic() - began < 3


def test_a_peer_that_takes_nothing_is_let_go_by_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, talking(listener.getsockname()[1]):
        ours, _ = listener.accept()

        class Transport(asyncio.Transport):
            def get_extra_info(self, name: str, default: Any = None) -> Any:
                return ours if name == "socket" else default

        with ours:
            connection._let_go_of_who_does_not_read(Transport())
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == connection.UNREAD_MS
