"""A real HTTP server in the test's own loop that answers bytes exactly as they are given."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from support.pictures import jpeg

Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]
PICTURE = jpeg()


def whole(body: bytes = PICTURE, status: str = "200 OK", *headers: str) -> bytes:
    """Build an answer with its right length."""
    return head(status, f"Content-Length: {len(body)}", *headers) + body


def head(status: str = "200 OK", *headers: str) -> bytes:
    """Build a status line and headers."""
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()


def redirect(location: str, status: str = "302 Found") -> bytes:
    """Build a redirect; as servers do, with a body that nobody reads."""
    return whole(b"elsewhere", status, f"Location: {location}")


class AnswerServer:
    """Answers each path with bytes, or with a coroutine that writes them; keeps the heads of requests."""

    def __init__(self, answers: dict[str, bytes | Handler]) -> None:
        self._answers = answers
        self.heads: list[str] = []
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(request)
            answer = self._answers[request.split(" ")[1]]
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    answers: dict[str, bytes | Handler], tls: ssl.SSLContext | None = None
) -> AsyncIterator[AnswerServer]:
    """Serve on a free port of loopback."""
    answering = AnswerServer(answers)
    server = await asyncio.start_server(answering, "127.0.0.1", 0, ssl=tls)
    answering.port = server.sockets[0].getsockname()[1]
    try:
        yield answering
    finally:
        server.close()
