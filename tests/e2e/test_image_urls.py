"""Pictures by URL, on a server whose settings allow some hosts."""

import base64
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.pictures import jpeg, png_header_of
from support.serving import Server, serve

PATHS = {"/a.jpg": jpeg(), "/bomb.png": png_header_of(60_000, 60_000), "/text": b"hello", "/large": b"x" * 1_000_001}


class Pictures(http.server.BaseHTTPRequestHandler):
    """Serve a few files, and one redirect to a forbidden address."""

    def do_GET(self) -> None:
        """Send the file at this path, or the redirect."""
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Content-Length", str(len(PATHS.get(self.path, b""))))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(PATHS.get(self.path, b""))

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def fetching(
    tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, pictures: str
) -> Iterator[Server]:
    settings = {
        "BLIP2_MODEL": str(tiny_checkpoints["opt"]),
        "BLIP2_IMAGE_URLS": f"{pictures},images.example",
        "BLIP2_MAX_REQUEST_BYTES": "1000000",
    }
    with serve(tmp_path_factory.mktemp("server"), settings) as running:
        yield running


def test_without_the_setting_no_url_is_fetched(server: Server, pictures: str) -> None:
    reply = httpx.post(f"{server.url}/generate", json={"img": f"http://{pictures}/a.jpg"})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "url_not_allowed")
    assert "BLIP2_IMAGE_URLS" in error["message"]


def test_a_listed_url_is_as_good_as_its_bytes(fetching: Server, pictures: str) -> None:
    url = f"http://{pictures}/a.jpg"
    sent = httpx.post(f"{fetching.url}/generate", json={"img": base64.b64encode(jpeg()).decode()}, timeout=60)
    for reply in (
        httpx.post(f"{fetching.url}/generate", json={"img": url}, timeout=60),
        httpx.post(f"{fetching.url}/generate", data={"img": url}, timeout=60),
        httpx.post(f"{fetching.url}/generate", files={"img": (None, url)}, timeout=60),
    ):
        assert (reply.status_code, reply.text) == (200, sent.text)
        assert reply.headers["x-image-id"] == hashlib.sha256(jpeg()).hexdigest()


@pytest.mark.parametrize(("path", "told"), [("/captions", "captions"), ("/choose", "choices")])
def test_endpoints_with_scores_fetch_too(fetching: Server, pictures: str, path: str, told: str) -> None:
    sent = httpx.post(f"{fetching.url}{path}", files={"img": jpeg()}, timeout=60)
    reply = httpx.post(f"{fetching.url}{path}", json={"img": f"http://{pictures}/a.jpg"}, timeout=60)
    assert (reply.status_code, reply.json()[told]) == (200, sent.json()[told])


def test_a_batch_may_be_of_urls(fetching: Server, pictures: str) -> None:
    encoded = base64.b64encode(jpeg()).decode()
    imgs = [f"http://{pictures}/a.jpg", encoded, "http://example.com/a.jpg", f"http://{pictures}/large"]
    for reply in (
        httpx.post(f"{fetching.url}/batch", json={"imgs": imgs}, timeout=60),
        httpx.post(f"{fetching.url}/batch", data={"imgs": imgs}, timeout=60),
    ):
        first, second, *others = reply.json()["results"]
        assert first == second
        assert first["image_id"] == hashlib.sha256(jpeg()).hexdigest()
        assert [each["error"]["code"] for each in others] == ["url_not_allowed", "image_too_large"]


def chat(fetching: Server, url: str) -> httpx.Response:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    call = {"model": "blip2", "messages": messages}
    return httpx.post(f"{fetching.url}/v1/chat/completions", json=call, timeout=60)


def test_an_openai_picture_may_be_a_url(fetching: Server, pictures: str) -> None:
    sent = chat(fetching, f"data:image/jpeg;base64,{base64.b64encode(jpeg()).decode()}")
    reply = chat(fetching, f"http://{pictures}/a.jpg")
    assert (reply.status_code, reply.json()["choices"]) == (200, sent.json()["choices"])
    assert reply.headers["x-image-id"] == hashlib.sha256(jpeg()).hexdigest()


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("http://{}/bomb.png", 413, "image_too_large"),
        ("http://{}/text", 415, "unsupported_image"),
        ("http://{}/away", 400, "url_not_allowed"),
        ("http://example.com/a.jpg", 400, "url_not_allowed"),
    ],
)
def test_what_is_wrong_with_it_is_wrong_with_the_messages(
    fetching: Server, pictures: str, url: str, status: int, code: str
) -> None:
    reply = chat(fetching, url.format(pictures))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, "messages")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/bomb.png", 413, "image_too_large"),
        ("/large", 413, "image_too_large"),
        ("/text", 415, "unsupported_image"),
        ("/empty", 400, "invalid_image"),
        ("/away", 400, "url_not_allowed"),
    ],
)
def test_what_is_fetched_is_judged_like_an_upload(
    fetching: Server, pictures: str, path: str, status: int, code: str
) -> None:
    reply = httpx.post(f"{fetching.url}/vqa", json={"img": f"http://{pictures}{path}"}, timeout=60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1", "127.0.0.1:1", "localhost", "169.254.169.254", "[::1]"])
def test_other_hosts_are_refused(fetching: Server, host: str) -> None:
    reply = httpx.post(f"{fetching.url}/vqa", json={"img": f"http://{host}/a.jpg"}, timeout=60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "url_not_allowed")
