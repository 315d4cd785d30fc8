"""Code that answers a request knows whose it is."""

import asyncio

import httpx
from starlette.types import Receive, Scope, Send

from blip2_serve.api.middleware.client import KnownClient
from blip2_serve.clients import NOBODY, current_client, networks_of


def client_seen(trusted: str, peer: str, forwarded_for: str) -> str:
    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": current_client.get().encode()})

    async def call() -> str:
        transport = httpx.ASGITransport(KnownClient(tell, lambda: networks_of(trusted)), client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/", headers={"X-Forwarded-For": forwarded_for})).text

    return asyncio.run(call())


def test_a_request_belongs_to_its_address() -> None:
    assert client_seen("", "203.0.113.7", "198.51.100.1") == "203.0.113.7"


def test_a_request_from_a_trusted_proxy_belongs_to_whom_it_speaks_for() -> None:
    assert client_seen("203.0.113.0/24", "203.0.113.7", "192.0.2.1, 198.51.100.1") == "198.51.100.1"


def test_what_runs_outside_a_request_belongs_to_nobody() -> None:
    assert current_client.get() == NOBODY
