"""Every bad request gets a 4xx, never a 5xx, in the one error shape, which names the field."""

import base64
import json
import random
import socket
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from support.pictures import damaged, encode, gradient, jpeg, png_header_of
from support.serving import Server

ENDPOINTS = ["/generate", "/vqa", "/chat"]
ENCODED = base64.b64encode(jpeg()).decode()


def refused(reply: httpx.Response, status: int, param: str | None = None) -> str:
    """Check the shape of an error and return its message."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["message"].endswith(".")
    return str(error["message"])


PICTURES = {
    "jpeg under another content type": (("a.png", jpeg(), "image/png"), 200),
    "jpeg as image/jpg": (("a.jpg", jpeg(), "image/jpg"), 200),
    "webp without a content type": (("a", encode(gradient(), "WEBP"), ""), 200),
    "avif": (("a.avif", encode(gradient(), "AVIF"), "image/avif"), 200),
    "one pixel": (("a.png", encode(Image.new("L", (1, 1))), "image/png"), 200),
    "one row": (("a.png", encode(Image.new("RGB", (5000, 1))), "image/png"), 200),
    "sixteen bits": (("a.png", encode(Image.new("I;16", (9, 9), 40_000)), "image/png"), 200),
    "cmyk": (("a.jpg", encode(gradient().convert("CMYK"), "JPEG"), "image/jpeg"), 200),
    "nothing": (("a.jpg", b"", "image/jpeg"), 400),
    "text": (("a.jpg", b"hello", "image/jpeg"), 415),
    "svg": (("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), 415),
    "truncated": (("a.jpg", jpeg(200, 200)[:-500], "image/jpeg"), 400),
    "a bomb": (("a.png", png_header_of(30_000, 30_000), "image/png"), 413),
    "one pixel too many": (("a.png", encode(Image.new("1", (2001, 1000))), "image/png"), 413),
}


def test_headers_without_an_end_are_refused(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert peer.recv(1000).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_judged_by_their_content(http: httpx.Client, name: str) -> None:
    part, status = PICTURES[name]
    reply = http.post("/generate", files={"img": part}, data={"max_new_tokens": 2})
    if status == 200:
        assert reply.status_code == 200, reply.text
    else:
        refused(reply, status, "img")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_missing_picture_is_named(http: httpx.Client, path: str) -> None:
    assert "img is missing" in refused(http.post(path, data={"txt": "hi"}), 400, "img")
    refused(http.post(path, json={}), 400, "img")
    refused(http.post(path, files={"txt": (None, "hi")}), 400, "img")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.jpg", "https://example.com/a.jpg", "file:///etc/passwd"])
def test_a_url_is_refused_and_never_fetched(http: httpx.Client, url: str) -> None:
    for reply in (
        http.post("/generate", files={"img": (None, url)}),
        http.post("/generate", data={"img": url}),
        http.post("/generate", json={"img": url}),
    ):
        assert "BLIP2_IMAGE_URLS" in refused(reply, 400, "img")


def test_a_form_that_names_a_local_listener_never_reaches_it(http: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.jpg"
        refused(http.post("/generate", files={"img": (None, url)}), 400, "img")
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("img", ["hello!", "data:image/png,abc", 5, ["a"], {"url": "x"}, True, "data:;base64,***"])
def test_an_inline_picture_must_be_base64(http: httpx.Client, img: object) -> None:
    refused(http.post("/generate", json={"img": img}), 400, "img")


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_beams", "17"), ("max_new_tokens", "0"), ("top_p", "2"), ("nonsense", "1"), ("context", "[]")],
)
def test_fields_out_of_bounds_and_unknown_ones_are_named(http: httpx.Client, name: str, value: str) -> None:
    for reply in (
        http.post("/generate", files={"img": jpeg()}, data={name: value}),
        http.post("/generate", data={"img": ENCODED, name: value}),
        http.post("/generate", json={"img": ENCODED, name: json.loads(value)}),
    ):
        refused(reply, 400, name)


def test_two_pictures_and_repeated_fields_are_refused(http: httpx.Client) -> None:
    assert "twice" in refused(http.post("/vqa", files=[("img", jpeg()), ("img", jpeg())]), 400, "img")
    refused(http.post("/vqa", files=[("img", jpeg()), ("img", (None, ENCODED))]), 400, "img")
    refused(http.post("/vqa", content=f'{{"img": "{ENCODED}", "txt": "a", "txt": "b"}}', headers=JSON), 400, "txt")
    refused(http.post("/vqa", content=f"img={ENCODED}&txt=a&txt=b", headers=URLENCODED), 400, "txt")


def test_a_text_field_that_comes_as_a_file_is_refused(http: httpx.Client) -> None:
    refused(http.post("/vqa", files={"img": jpeg(), "txt": ("a.txt", b"hi")}), 400, "txt")


JSON = {"content-type": "application/json"}
URLENCODED = {"content-type": "application/x-www-form-urlencoded"}
DEEP = 100_000


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b"null"),
        ("application/json", b""),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[" * DEEP),
        ("application/json", b'{"img": "aGk=", "\\ud800": 1}'),
        ("application/json", b'{"\\ud800": 1, "\\ud800": 2}'),
        ("application/json", b'{"img":' * DEEP),
        ("application/json", b'{"img": "a", "top_p": NaN}'),
        ("application/json", b'{"img": "a", "seed": ' + b"9" * 5000 + b"}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=", b""),
        ("multipart/form-data; boundary=a", b"hello"),
        ("multipart/form-data; boundary=a", b"--a\r\nno-disposition: x\r\n\r\nhi\r\n--a--\r\n"),
        ("multipart/form-data; boundary=a", b'--a\r\ncontent-disposition: form-data; name="img"\r\n\r\nhi'),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x"),
        ("application/x-www-form-urlencoded", b"%ff=%fe"),
        ("application/x-www-form-urlencoded", b"&".join(b"a=1" for _ in range(1000))),
        ("application/x-www-form-urlencoded", b"no pairs"),
    ],
)
def test_a_malformed_body_is_a_400(http: httpx.Client, content_type: str, body: bytes) -> None:
    reply = http.post("/generate", content=body, headers={"content-type": content_type})
    assert reply.status_code == 400, reply.text
    refused(reply, 400, reply.json()["error"]["param"])


@pytest.mark.parametrize("content_type", ["text/plain", "application/vnd.bentoml+pickle", "video/mp4", "x"])
def test_another_kind_of_body_is_a_415(http: httpx.Client, content_type: str) -> None:
    refused(http.post("/generate", content=jpeg(), headers={"content-type": content_type}), 415)


def test_a_body_over_the_limit_is_a_413(http: httpx.Client) -> None:
    refused(http.post("/generate", files={"img": b"x" * 1_100_000}), 413)


def test_a_chunked_body_over_the_limit_is_a_413(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--a\r\ncontent-disposition: form-data; name="img"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield b"x" * 50_000

    refused(http.post("/generate", content=chunks(), headers={"content-type": "multipart/form-data; boundary=a"}), 413)
    refused(http.post("/generate", content=chunks(), headers=JSON), 413)


def test_404_and_405_have_the_same_shape(http: httpx.Client) -> None:
    assert "/nothing" in refused(http.get("/nothing"), 404)
    refused(http.post("/nothing", files={"img": jpeg()}), 404)
    assert "GET" in refused(http.get("/generate"), 405)
    refused(http.put("/livez"), 405)


def test_random_bytes_in_every_part_of_a_request_never_give_a_5xx(http: httpx.Client) -> None:
    rng = random.Random(0)
    whole = httpx.Request("POST", "http://x/", files={"img": jpeg()}, data={"txt": "hi", "top_p": "0.5"})
    body, content_type = whole.read(), whole.headers["content-type"]
    for _ in range(150):
        reply = http.post("/generate", content=damaged(body, rng), headers={"content-type": content_type})
        assert reply.status_code < 500, reply.text


def test_a_content_type_that_is_no_text_is_answered_too(http: httpx.Client) -> None:
    refused(http.post("/generate", content=b"x", headers=[(b"content-type", b"\xff\xfe")]), 415)


def test_a_stranger_cannot_write_lines_into_the_log(http: httpx.Client, server: Server) -> None:
    refused(http.get("/a%0Ablip2-serve says hello"), 404)
    log = server.logged("/a%0Ablip2-serve%20says%20hello 404")
    assert "\nblip2-serve says hello" not in log


def test_paths_that_strangers_think_of_leave_no_series_in_the_metrics(http: httpx.Client) -> None:
    for number in range(20):
        assert http.get(f"/nothing/{number}").status_code == 404
    http.post("/generate", files={"img": jpeg()}, data={"max_new_tokens": 2})
    metrics = http.get("/metrics").text
    assert 'endpoint="/generate"' in metrics
    assert "/nothing/" not in metrics


def test_after_all_this_the_server_still_captions(http: httpx.Client) -> None:
    assert http.post("/generate", files={"img": jpeg()}).status_code == 200
