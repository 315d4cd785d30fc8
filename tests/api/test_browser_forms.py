"""Forms as browsers send them: JSON values as nameless files, untouched fields as empty ones."""

import asyncio

import httpx
import pytest
from starlette.requests import Request

from blip2_serve.api.body import read_body
from blip2_serve.api.openapi.bodies import describe_bodies
from blip2_serve.errors import InvalidField
from blip2_serve.images import Upload

IMG = ("a.jpg", b"picture", "image/jpeg")


def read(**parts: tuple[str, bytes, str]) -> dict[str, object]:
    """Parse a multipart form of file parts."""
    sent = httpx.Request("POST", "http://test", files=parts)
    headers = [(name.lower(), value) for name, value in sent.headers.raw]
    body = sent.read()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    values = asyncio.run(read_body(Request(scope, receive)))
    return {name: value.release() if isinstance(value, Upload) else value for name, value in values.items()}


def test_a_json_value_may_come_as_a_nameless_file() -> None:
    values = read(img=IMG, txt=("blob", b'"a red"', "application/json"), seed=("blob", b"7", "application/json"))
    assert values == {"img": b"picture", "txt": "a red", "seed": "7"}


def test_an_untouched_field_counts_as_not_given() -> None:
    parts = {"txt": ("blob", b"null", "application/json"), "seed": ("blob", b"", "application/json")}
    assert read(img=IMG, **parts) == {"img": b"picture"}


@pytest.mark.parametrize(
    "part", [("b.jpg", b"picture", "image/jpeg"), ("blob", b"\xff", "application/json")], ids=["a picture", "no text"]
)
def test_other_files_in_text_fields_are_refused_by_name(part: tuple[str, bytes, str]) -> None:
    with pytest.raises(InvalidField) as caught:
        read(img=IMG, txt=part)
    assert caught.value.about == "txt"


def test_the_page_prefills_nothing_and_sends_only_lists_as_json() -> None:
    fields = {"txt": {"type": "string", "default": None}, "context": {"type": "array", "items": {}, "default": None}}
    form = {"title": "ChatInput", "properties": fields}
    item = {"post": {"requestBody": {"content": {"multipart/form-data": {"schema": form}}}}}
    described = describe_bodies({"paths": {"/chat": item}, "components": {"schemas": {"ChatInput": form}}})
    body = described["paths"]["/chat"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert body["encoding"] == {"context": {"contentType": "application/json"}}
    assert body["schema"]["properties"] == {"txt": {"type": "string"}, "context": {"type": "array", "items": {}}}
