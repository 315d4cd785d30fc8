"""Bodies of all three media types become the same plain values."""

import asyncio
import base64
import io
import time

import pytest
from PIL import Image
from starlette.requests import Request
from starlette.types import Message

from blip2_serve.api import body as body_module
from blip2_serve.api.body import read_body
from blip2_serve.errors import InvalidField, InvalidImage, UnsupportedBody
from blip2_serve.images import ImageUrl, Upload


def read(
    content_type: str,
    body: bytes,
    *,
    cut: bool = False,
    repeatable: frozenset[str] = frozenset(),
    query: bytes = b"",
    takes_picture: bool = True,
) -> dict[str, object]:
    """Parse a body that arrives in chunks; `cut` drops the connection before the last one."""
    step = 7 if len(body) < 10_000 else 65_536
    chunks = [body[start : start + step] for start in range(0, len(body), step)] or [b""]

    async def receive() -> Message:
        if cut and len(chunks) == 1:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    headers = [(b"content-type", content_type.encode())] if content_type else []
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": query}
    values = asyncio.run(read_body(Request(scope, receive), repeatable, takes_picture=takes_picture))
    return {name: value.release() if isinstance(value, Upload) else value for name, value in values.items()}


def form(*parts: tuple[str, bytes]) -> bytes:
    """Build a multipart body with boundary `b`; each head follows `form-data; `."""
    encoded = [
        b"--b\r\ncontent-disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    ]
    return b"".join(encoded) + b"--b--\r\n"


MULTIPART = "multipart/form-data; boundary=b"
PICTURE = ('name="img"; filename="a.jpg"', b"\xff\xd8 bytes")


def test_a_file_part_is_bytes_and_a_text_part_is_text() -> None:
    assert read(MULTIPART, form(PICTURE, ('name="txt"', b"hi"))) == {"img": b"\xff\xd8 bytes", "txt": "hi"}


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b'"hi"', "hi"),
        (b"hi", "hi"),
        (b"42", "42"),
        (b"[1]", "[1]"),
        (b'"a', '"a'),
        (b'"\\u00e9"', "é"),
        (b'"a"b"', '"a"b"'),
    ],
)
def test_text_may_come_raw_or_as_a_json_string(sent: bytes, meant: str) -> None:
    assert read(MULTIPART, form(('name="txt"', sent))) == {"txt": meant}


@pytest.mark.parametrize("sent", [b"null", b"", b'""'])
def test_an_empty_text_is_not_given(sent: bytes) -> None:
    assert read(MULTIPART, form(('name="txt"', sent))) == {}


def test_a_urlencoded_form_may_hold_json_strings_too() -> None:
    body = b"txt=%22hi%22&img_id=%22ab%22&seed=7&top_k=null&context=%5B%5B%22a%22%2C+%22b%22%5D%5D&img=%22eHl6"
    with pytest.raises(InvalidImage):
        read("application/x-www-form-urlencoded", body)
    values = read("application/x-www-form-urlencoded", body.replace(b"&img=%22", b"&img="))
    assert values == {"txt": "hi", "img_id": "ab", "seed": "7", "context": '[["a", "b"]]', "img": b"xyz"}


def test_urlencoded_text_is_taken_as_it_is() -> None:
    body = b"txt=a%20%22b%22&img=" + base64.b64encode(b"xyz").replace(b"=", b"%3D")
    assert read("application/x-www-form-urlencoded", body) == {"txt": 'a "b"', "img": b"xyz"}


def test_json_keeps_its_types() -> None:
    body = b'{"img": "eHl6", "txt": "null", "seed": 3, "context": [["a", "b"]], "top_p": null}'
    expected = {"img": b"xyz", "txt": "null", "seed": 3, "context": [["a", "b"]]}
    assert read("application/json; charset=utf-8", body) == expected


def test_a_lost_connection_is_said_to_be_one() -> None:
    with pytest.raises(InvalidField, match="ended before its end"):
        read(MULTIPART, form(PICTURE), cut=True)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/mixed"])
def test_other_kinds_of_body_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedBody):
        read(kind, b"x")


@pytest.mark.parametrize("kind", ["image/jpeg", "Image/X-Whatever; q=1", "application/octet-stream"])
def test_a_body_may_be_the_picture_with_the_other_fields_in_the_query(kind: str) -> None:
    query = b"num_beams=3&txt=%22a+caf%C3%A9%22&choices=a&choices=b&seed=&top_k=null"
    values = read(kind, b"any=bytes&at=all", query=query, repeatable=frozenset({"choices"}))
    expected = {"img": b"any=bytes&at=all", "num_beams": "3", "txt": "a café", "choices": ["a", "b"]}
    assert values == expected


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", ""])
def test_a_picture_that_is_called_a_form_or_nothing_is_one(kind: str, suffix: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, suffix)
    assert read(kind, file.getvalue(), query=b"a=1") == {"img": file.getvalue(), "a": "1"}


def test_what_begins_like_a_form_is_a_form() -> None:
    for name in (b"BM", b"RIFF", b"II", b"GIF", b"ftyp", b"txt"):
        assert read("application/x-www-form-urlencoded", name + b"=1234567890") == {name.decode(): "1234567890"}


@pytest.mark.parametrize(
    ("query", "said"), [(b"a=1&a=2", "a was sent twice"), (b"img=x", "img"), (b"a", "query string")]
)
def test_a_query_is_judged_as_a_form_is(query: bytes, said: str) -> None:
    with pytest.raises(InvalidField, match=said):
        read("image/png", b"x", query=query)


def test_an_empty_picture_is_said_to_be_empty_and_not_to_be_missing() -> None:
    assert read("image/png", b"") == {"img": b""}


def test_where_no_single_picture_is_taken_none_is_a_body() -> None:
    for kind in ("image/png", "application/octet-stream", ""):
        with pytest.raises(UnsupportedBody):
            read(kind, b"\x89PNG\r\n\x1a\n", takes_picture=False)


def test_a_url_in_the_place_of_a_picture_stays_a_url() -> None:
    url = "https://example.com/a.jpg"
    asked = read("application/json", b'{"img": "https://example.com/a.jpg"}')
    assert asked == read(MULTIPART, form(('name="img"', url.encode()))) == {"img": ImageUrl(url)}


def test_a_large_body_is_parsed_too() -> None:
    picture = base64.b64encode(b"x" * 100_000)
    assert read("application/json", b'{"img": "' + picture + b'"}') == {"img": b"x" * 100_000}


def test_large_bodies_of_one_client_are_parsed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = most = 0

    def parse(body: bytearray) -> dict[str, object]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.02)
        now -= 1
        return {}

    async def post() -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": bytes(100_000), "more_body": False}

        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
        await read_body(Request(scope, receive))

    async def many() -> None:
        await asyncio.gather(*(post() for _ in range(8)))

    monkeypatch.setattr(body_module, "_json_values", parse)
    asyncio.run(many())
    assert most == 1


def test_the_senders_charset_is_not_used() -> None:
    hostile = f"{MULTIPART}; charset=punycode"
    began = time.perf_counter()
    read(hostile, form(('name="txt"', b"-" + b"a" * 200_000)))
    assert time.perf_counter() - began < 0.5  # punycode takes quadratic time


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"context": [' + b"[]," * 200_000 + b"[]]}"),
        ("application/x-www-form-urlencoded", b"img=" + b"%41" * 1_100_000),
        (MULTIPART, form(('name="context"', b"[" + b"[]," * 400_000 + b"[]]"))),
    ],
)
def test_bodies_that_would_take_seconds_to_parse_are_refused_unparsed(kind: str, body: bytes) -> None:
    with pytest.raises(InvalidField, match=r"more than|too many"):
        read(kind, body)


@pytest.mark.parametrize("name", ['"\\ud800"', '"\u00e9"'])
def test_names_that_no_header_or_json_can_carry_are_refused(name: str) -> None:
    with pytest.raises(InvalidField, match="ASCII"):
        read("application/json", f'{{"img": "eHl6", {name}: 1}}'.encode())
