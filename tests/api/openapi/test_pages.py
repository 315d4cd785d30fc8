"""Documents are made once and answered from memory; whoever has one already is told so."""

import asyncio

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.api.openapi.pages import Documents


class Bento:
    """Answers a schema, and counts how often it is asked."""

    num_asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.num_asked += 1
        await asyncio.sleep(0.01)
        await JSONResponse({"path": scope["path"]})(scope, receive, send)


def replies(bento: Bento, *requests: tuple[str, str, dict[str, str]]) -> list[httpx.Response]:
    async def call() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(Documents(bento, lambda: "'none'")), base_url="http://x"
        ) as client:
            calls = (client.request(method, path, headers=headers) for method, path, headers in requests)
            return list(await asyncio.gather(*calls))

    return asyncio.run(call())


def test_sixty_callers_at_once_have_it_made_once() -> None:
    bento = Bento()
    answers = replies(bento, *[("GET", "/schema.json", {})] * 60)
    assert {answer.json()["path"] for answer in answers} == {"/schema.json"}
    assert bento.num_asked == 1


@pytest.mark.parametrize("sent", ["{}", "W/{}", '"other", {}'])
def test_a_known_etag_is_answered_304(sent: str) -> None:
    (first,) = replies(Bento(), ("GET", "/", {}))
    (again,) = replies(Bento(), ("GET", "/", {"If-None-Match": sent.format(first.headers["etag"])}))
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert replies(Bento(), ("GET", "/", {"If-None-Match": '"other"'}))[0].status_code == 200


def test_other_paths_and_methods_pass_through() -> None:
    bento = Bento()
    assert [answer.json()["path"] for answer in replies(bento, ("POST", "/", {}), ("GET", "/ui/docs.json", {}))] == [
        "/",
        "/ui/docs.json",
    ]
    assert bento.num_asked == 2
