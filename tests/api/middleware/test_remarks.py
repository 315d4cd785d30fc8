"""Remarks made while a request runs are headers of its answer, and of no other."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from blip2_serve.api.middleware.remarks import Remarks
from blip2_serve.remarks import current_remarks, remark


async def _answer(request: Request) -> Response:
    async def work() -> None:
        remark("X-Seen", request.query_params["as"])

    if "as" in request.query_params:
        await asyncio.create_task(work())
    if "stream" in request.query_params:

        async def parts():  # type: ignore[no-untyped-def]
            yield "a"

        return StreamingResponse(parts())
    return PlainTextResponse("a")


@pytest.mark.parametrize("stream", ["", "&stream"])
def test_a_remark_of_any_task_of_a_request_is_told(stream: str) -> None:
    client = TestClient(Remarks(Starlette(routes=[Route("/", _answer)])))
    assert client.get(f"/?as=cut{stream}").headers["x-seen"] == "cut"
    assert "x-seen" not in client.get(f"/?{stream}").headers


def test_outside_of_requests_nobody_listens() -> None:
    assert current_remarks.get() is None
    remark("X-Seen", "cut")
    assert current_remarks.get() is None
