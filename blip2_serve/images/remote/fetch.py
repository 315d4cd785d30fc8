"""Fetch a picture from a URL that a stranger chose, without giving the stranger a way into the network.

The text of every URL, redirects included, passes `UrlPolicy`; every address that its name resolves to must be public,
unless its host is listed; and the connection goes to a checked address, not to the name again, which could resolve
differently by then.
"""

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpcore
import httpx

from blip2_serve.config import DEFAULT_USER_AGENT
from blip2_serve.errors import ImageFetchFailed, ImageTooLarge, Part
from blip2_serve.images.remote.addresses import Address, is_public
from blip2_serve.images.remote.response_head import TolerantBackend
from blip2_serve.images.remote.url_policy import Target, UrlPolicy
from blip2_serve.images.source import ImageId, ImageSource, ImageUrl, Upload

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 10.0
MAX_REDIRECTS = 3
MAX_FETCHES = 16
# 20 MB arrive in 14,000 packets of 1,400 bytes. One-byte chunks would keep the event loop busy for minutes.
MAX_PIECES = 32_768
_MAX_ADDRESSES_TRIED = 4
_WHOLE = (200, 203)  # 203: a proxy on the way has changed a header, or the picture
# Content-Encodings that pack nothing, proper and made up.
_UNPACKED = ("", "identity", "none", "binary", "8bit", "utf-8", "utf8", "iso-8859-1")
_REDIRECTS = (301, 302, 303, 307, 308)

Resolve = Callable[[str, int], list[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """Resolve a name to all its addresses, in the system resolver's order; blocks for as long as DNS takes.

    Raises:
        OSError: the name cannot be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in found))


class _Unreachable(Exception):
    """A fetch failed; the message is for the log alone."""


class ImageFetcher:
    """Fetches at most MAX_FETCHES pictures at a time, each of at most `max_bytes`; further ones wait."""

    def __init__(
        self, policy: UrlPolicy, max_bytes: int, resolve: Resolve = resolve, user_agent: str = DEFAULT_USER_AGENT
    ) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._user_agent = user_agent
        self._slots = asyncio.Semaphore(MAX_FETCHES)
        # Not asyncio's own threads: names that resolve slowly must not hold up anything else.
        self._resolvers = ThreadPoolExecutor(MAX_FETCHES, thread_name_prefix="resolve")

    @asynccontextmanager
    async def at_hand(self, source: ImageSource) -> AsyncIterator[Upload | ImageId]:
        """Yield the picture, fetched if it is a URL; holds its slot until the context exits, which bounds memory.

        Raises:
            UrlNotAllowed, ImageFetchFailed, ImageTooLarge: see `fetch`.
        """
        if isinstance(source, ImageUrl):
            self._policy.check(source.url)  # without waiting for a slot
            async with self._slots:
                yield Upload(await self.fetch(source.url))
        else:
            yield source

    async def fetch(self, url: str) -> bytes:
        """GET `url`, follow its redirects and return the body.

        Raises:
            UrlNotAllowed: the text of the URL, or of one that it redirects to, is not allowed.
            ImageFetchFailed: no public address, no connection, too many redirects, no 200, a compressed or
                incomplete body, or too late.
            ImageTooLarge: more than `max_bytes`; nothing beyond them is read.
        """
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT_S):
                return await self._follow(self._policy.check(url))
        except (_Unreachable, OSError, httpx.HTTPError) as reason:  # TimeoutError is an OSError
            logger.info("a picture's URL was not fetched: %r", reason)
            # One message for an unknown name, an address inside, a refused connection, silence and bad TLS: telling
            # them apart would let a caller map the names and ports of this server's network.
            raise ImageFetchFailed(
                f"The picture could not be fetched: check that its URL is public and answers within"
                f" {TOTAL_TIMEOUT_S:g} s, or send the picture itself.",
                about=Part.IMAGE,
            ) from None

    def close(self) -> None:
        """Release the threads that resolve names."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, target: Target) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            async with self._get(target) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response)
                target = self._policy.check(response.headers.get("location", ""), base=target.url)
        raise _failed(f"redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _get(self, target: Target) -> AsyncIterator[httpx.Response]:
        """Yield the answer of the first address that accepts a connection, its body unread.

        A bare transport, not a client: it follows no redirects, keeps no cookies and reads no proxy settings.
        """
        addresses = await self._checked_addresses(target)
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            transport._pool = httpcore.AsyncConnectionPool(self._tls, network_backend=TolerantBackend())
            response = await _first_answer(transport, target, addresses, self._user_agent)
            try:
                yield response
            finally:
                await response.aclose()

    async def _checked_addresses(self, target: Target) -> list[Address]:
        if target.address is not None:
            return [target.address]
        loop = asyncio.get_running_loop()
        addresses = await loop.run_in_executor(self._resolvers, self._resolve, target.host, target.port)
        inside = [address for address in addresses if not (target.any_address or is_public(address))]
        # One address inside is enough to refuse: an attacker would mix it in and rely on the order.
        if inside or not addresses:
            raise _Unreachable(f"{target.host} resolves to {inside or 'nothing'}")
        return addresses

    async def _read(self, response: httpx.Response) -> bytes:
        if response.status_code not in _WHOLE:
            raise _failed(f"is answered with status {response.status_code}")
        encodings = response.headers.get("content-encoding", "").lower().split(",")
        if any(encoding.strip() not in _UNPACKED for encoding in encodings):
            raise _failed("is answered compressed, which was not asked for")  # small to send, gigabytes to unpack
        if _declared_length(response) > self._max_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        room = self._max_bytes
        async for piece in response.aiter_raw():
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                raise self._too_large()
            if len(pieces) > MAX_PIECES:
                raise _failed("is answered in too many small pieces")
        return b"".join(pieces)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR, and nothing else

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(
            f"The picture at the URL has more than the {self._max_bytes} bytes that are taken: choose a smaller one.",
            about=Part.IMAGE,
        )


async def _first_answer(
    transport: httpx.AsyncHTTPTransport, target: Target, addresses: list[Address], user_agent: str
) -> httpx.Response:
    failures: list[httpx.TransportError] = []
    for address in addresses[:_MAX_ADDRESSES_TRIED]:
        try:
            return await transport.handle_async_request(_request(target, address, user_agent))
        except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
            failures.append(failure)
    raise failures[-1]


def _request(target: Target, address: Address, user_agent: str) -> httpx.Request:
    """Build a GET that goes to `address` and names the host: in Host, and in TLS for the certificate check."""
    return httpx.Request(
        "GET",
        target.url.copy_with(host=str(address), port=target.port),
        headers={
            "Host": target.host_header,
            "User-Agent": user_agent,
            "Accept": "image/*, */*;q=0.5",
            "Accept-Encoding": "identity",
            "Connection": "close",
        },
        extensions={
            "sni_hostname": target.host,
            "timeout": {"connect": CONNECT_TIMEOUT_S, "read": TOTAL_TIMEOUT_S, "write": TOTAL_TIMEOUT_S},
        },
    )


def _declared_length(response: httpx.Response) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _failed(problem: str) -> ImageFetchFailed:
    return ImageFetchFailed(f"The picture's URL {problem}: send another, or the picture itself.", about=Part.IMAGE)
