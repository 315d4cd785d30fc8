"""Read answers whose headers are odd but harmless: a bad line that nobody asked about is dropped before h11 sees it.

h11 refuses an answer for a single such line, which browsers skip. Lines about where the body ends, how it is packed or
where to go instead are left as they are, for h11 to judge: the connection carries one answer and is closed.
"""

# ruff: noqa: ASYNC109  # httpcore's interface has timeouts

import re
from collections.abc import Iterable, Iterator
from ssl import SSLContext

import httpcore

# Of all headers; h11 refuses more without our help.
MAX_HEAD_BYTES = 65_536
_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_GOOD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:.*", re.DOTALL)
_ABOUT_THE_BODY = (b"content-length", b"transfer-encoding", b"content-encoding", b"location")
_ANOTHER_FOLLOWS = b"HTTP/1.1 1"  # 100 Continue, 103 Early Hints
# Each is read without a pause: a server that sends them for ever would have the event loop for itself.
MAX_HEADS_BEFORE = 8
# Says nothing, and was taken out of HTTP for that.
_SAYS_NOTHING = re.compile(rb"transfer-encoding:[ \t]*identity[ \t]*", re.IGNORECASE)


class TolerantBackend(httpcore.AsyncNetworkBackend):
    """The usual network, with answers' headers cleaned."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect as httpcore does."""
        return _CleanStream(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))


class _CleanStream(httpcore.AsyncNetworkStream):
    """A connection whose first bytes, up to the end of the answer's headers, are cleaned."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head = bytearray()
        self._is_in_head = True
        self._num_heads = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come; of headers, all of them at once."""
        unsearched = 0
        while self._is_in_head:
            if end := _END.search(self._head, unsearched):
                return self._taken(end.end())
            unsearched = max(0, len(self._head) - 3)  # the end may have begun
            received = await self._stream.read(max_bytes, timeout)
            self._head += received
            if not received or len(self._head) > MAX_HEAD_BYTES:
                self._is_in_head = False
                return bytes(self._head)
        return await self._stream.read(max_bytes, timeout)

    def _taken(self, length: int) -> bytes:
        """Take the head of this length, cleaned, with what has come after it, unless that is another head.

        Raises:
            httpcore.RemoteProtocolError: so many have come that no answer is to be expected.
        """
        self._num_heads += 1
        if self._num_heads > MAX_HEADS_BEFORE:
            raise httpcore.RemoteProtocolError(f"more than {MAX_HEADS_BEFORE} heads and no answer")
        head = cleaned(bytes(self._head[:length]))
        del self._head[:length]
        if head.startswith(_ANOTHER_FOLLOWS):
            return head
        self._is_in_head = False
        return head + self._head

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Pass on."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Pass on."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Clean what is inside TLS."""
        return _CleanStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        """Pass on."""
        return self._stream.get_extra_info(info)


def cleaned(head: bytes) -> bytes:
    """Return the status line and headers in `head` without lines that h11 would refuse and nobody needs."""
    status, *lines = _LINE_END.split(head)
    return b"\r\n".join([status, *_kept(lines)])


def _kept(lines: Iterable[bytes]) -> Iterator[bytes]:
    is_kept = True
    for line in lines:
        if not line.startswith((b" ", b"\t")):  # else it goes on with the one before
            name = line.partition(b":")[0].lower()
            is_good = not line or _GOOD_LINE.fullmatch(line) or any(each in name for each in _ABOUT_THE_BODY)
            is_kept = bool(is_good) and not _SAYS_NOTHING.fullmatch(line)
        if is_kept:
            yield line
