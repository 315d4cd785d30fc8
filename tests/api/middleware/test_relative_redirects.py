"""A redirect that adds or takes a slash leads to the same place under any prefix; others are left alone."""

import asyncio
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from blip2_serve.api.middleware.relative_redirects import RelativeRedirects


async def page(request: Request) -> Response:
    return PlainTextResponse("here")


async def away(request: Request) -> Response:
    return RedirectResponse("https://example.com/away/")


APP = Starlette(routes=[Mount("/ui", Route("/", page)), Route("/v1/models", page), Route("/away", away)])


def location(path: str) -> str:
    async def call() -> str:
        transport = httpx.ASGITransport(RelativeRedirects(APP))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return (await client.get(path)).headers["location"]

    return asyncio.run(call())


@pytest.mark.parametrize(("path", "led_to"), [("/ui", "/ui/"), ("/ui?a=b", "/ui/?a=b"), ("/v1/models/", "/v1/models")])
@pytest.mark.parametrize("prefix", ["https://host", "https://host/blip2", "https://host/a/b:c"])
def test_a_slash_is_added_or_taken_under_every_prefix(prefix: str, path: str, led_to: str) -> None:
    assert urljoin(prefix + path, location(path)) == prefix + led_to


def test_another_place_stays_what_it_is() -> None:
    assert location("/away") == "https://example.com/away/"
