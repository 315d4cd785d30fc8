"""Bound what a connection may do before a request's headers are there, and after its answer has been sent.

uvicorn 0.54 waits for headers for ever and keeps all that come, waits for peers that take nothing of an answer,
and reads the rest of a refused body as fast as it comes, for ever.
"""

import asyncio
import contextlib
import http
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Clients send headers at once, of a few kilobytes.
HEADERS_S = 20.0
MAX_HEADER_BYTES = 65_536
# The rest of a body that has been answered already is read at this pace: most callers look for an answer only after it.
UNWANTED_BYTES_PER_S = 8_000_000
# It has to end within so long: 200 MB take half of it.
UNWANTED_S = 60.0
# What uvicorn waits for the next request after an answer. Load balancers wait a minute, and take a connection that is
# closed before theirs for a server that fails.
_UVICORN_KEEP_ALIVE_S = 5
# tcp(7), TCP_USER_TIMEOUT: a peer that takes nothing of what was sent is let go after so long.
UNREAD_MS = 30_000


def bound_connections(keep_alive_s: Callable[[], int]) -> None:
    """Let uvicorn use `BoundedConnection`; call it before the server starts.

    `keep_alive_s` is called for each connection: importing the service must not read the settings.
    """
    auto.AutoHTTPProtocol = partial(BoundedConnection, keep_alive_s=keep_alive_s)  # type: ignore[assignment]


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection, closed when headers take longer than HEADERS_S or more than MAX_HEADER_BYTES.

    Headers begin with the connection, and with the first byte that comes after an answer. 408 and 431 say why.
    """

    def __init__(self, *args: Any, keep_alive_s: Callable[[], int], **options: Any) -> None:
        super().__init__(*args, **options)
        if self.timeout_keep_alive == _UVICORN_KEEP_ALIVE_S:  # nobody has asked for another
            self.timeout_keep_alive = keep_alive_s()
        self._patience: asyncio.TimerHandle | None = None
        self._num_bytes = 0
        self._in_headers = self._in_body = self._is_resting = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        _let_go_of_who_does_not_read(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come; headers that have not ended by then are counted."""
        if self.transport.is_closing():
            return
        was_in_body = self._in_body
        if self._patience is None and not was_in_body and self._is_answered:
            self._await_headers()
        super().data_received(data)
        if not was_in_body and (self._in_headers or self._patience is not None):
            self._num_bytes += len(data)
            if self._num_bytes > MAX_HEADER_BYTES:
                self._refuse(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "send shorter headers, or fewer")

    def on_message_begin(self) -> None:
        """Note that a request's headers begin."""
        self._in_headers = True
        if self._is_resting:
            self._await_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no longer: the body has limits of its own, see middleware/pace.py and middleware/body_limit.py."""
        self._in_headers, self._in_body = False, True
        self._num_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the body has ended; if it was answered before, the next request may begin."""
        self._in_body = False
        super().on_message_complete()
        if self._is_answered:
            self._rest()

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait a while for the rest of this one's body."""
        super().on_response_complete()
        if self._in_body and self._is_answered:
            self._wait(UNWANTED_S, "send the body within a minute of its answer")

    def on_body(self, body: bytes) -> None:
        """Read on, or more slowly where nobody wants it any more."""
        super().on_body(body)
        if self._is_answered:
            self.flow.pause_reading()
            self.loop.call_later(len(body) / UNWANTED_BYTES_PER_S, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    @property
    def _is_answered(self) -> bool:
        """True if no request waits for its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _rest(self) -> None:
        """Wait for the next request as long as uvicorn does after an answer, of which the body was the end here."""
        self._num_bytes = 0
        self._wait(self.timeout_keep_alive, "send another request sooner")
        self._is_resting = True

    def _await_headers(self) -> None:
        self._num_bytes = 0
        self._wait(HEADERS_S, f"send the headers within {HEADERS_S:g} s")

    def _wait(self, seconds: float, advice: str) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(seconds, self._refuse, http.HTTPStatus.REQUEST_TIMEOUT, advice)

    def _stop_waiting(self) -> None:
        self._is_resting = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: http.HTTPStatus, advice: str) -> None:
        """Close the connection, with an answer unless there was one to this request, or nothing at all has come.

        Browsers open connections before they need them, and would take the answer for that to their next request.
        """
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if self._num_bytes and self._is_answered:
            body = f"{status.phrase}: {advice}.\n".encode()
            head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.transport.close()


def _let_go_of_who_does_not_read(transport: asyncio.Transport) -> None:
    connection = cast(socket.socket, transport.get_extra_info("socket"))
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # not TCP
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
