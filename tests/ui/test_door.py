"""The door passes only the page's own requests on, to a stand-in for gradio that answers everything."""

import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.middleware.body_limit import BodyLimit
from blip2_serve.ui.calls import MAX_CALL_BYTES, Calls
from blip2_serve.ui.door import Door
from blip2_serve.ui.uploads import Uploads

SCRIPT = "window.gradio_config = {};"
JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"
Files = list[tuple[str, tuple[str, bytes]]]


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any request with a page; fail as gradio does when the body breaks off."""
    try:
        body = await Request(scope, receive).body()
    except Exception:
        await HTMLResponse("gradio failed", 500)(scope, receive, send)
        raise
    headers = Headers(scope=scope)
    told = f"<!--{scope['path']} {headers.get('x-gradio-server')} {headers.get('x-forwarded-host')}-->"
    await HTMLResponse(f"<html><script>{SCRIPT}</script>{told}{body.decode()}</html>")(scope, receive, send)


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    """The folder of uploads, with one picture in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Uploads(max_bytes=200_000)
    (made.folder / "picture.png").write_bytes(b"picture")
    yield made
    made.remove()


def ask(
    uploads: Uploads,
    method: str,
    path: str,
    content: object = None,
    files: Files | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Send one request to the door, inside the service's error and body-limit middleware."""

    async def call() -> httpx.Response:
        door = Door(everything, uploads, Calls({0: (str, list)}, uploads), on_visit=lambda: None, frame_policy="'none'")
        app = ErrorShape(BodyLimit(door, max_bytes=lambda: 3 * MAX_CALL_BYTES))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.request(method, path, content=content, files=files, headers=headers)  # type: ignore[arg-type]

    return asyncio.run(call())


def call_naming(*paths: object) -> bytes:
    """Build a call of two values whose nested data name files."""
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    return json.dumps({"data": ["a", files], "fn_index": 0, "session_hash": "a1b2", "trigger_id": 7}).encode()


@pytest.mark.parametrize("path", ["/", "/theme.css", "/assets/index.js", "/gradio_api/queue/data"])
def test_what_the_page_reads_is_there(uploads: Uploads, path: str) -> None:
    assert ask(uploads, "GET", path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/proxy=https://example.com/"),
        ("HEAD", "/gradio_api/proxy=https://example.com/"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=https://example.com/a.png"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/monitoring"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/chat"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/login"),
        ("POST", "/"),
        ("PUT", JOIN),
        ("GET", JOIN),
    ],
)
def test_nothing_else_is(uploads: Uploads, method: str, path: str) -> None:
    assert ask(uploads, method, path).status_code == 404


def test_a_picture_that_was_sent_is_shown_and_is_no_page(uploads: Uploads) -> None:
    reply = ask(uploads, "GET", f"/gradio_api/file={uploads.folder}/picture.png")
    assert reply.status_code == 200
    assert reply.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_policy_of_the_page_names_its_scripts_and_no_other_host(uploads: Uploads) -> None:
    reply = ask(uploads, "GET", "/")
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy.pop("script-src") == f"'self' 'sha256-{digest}'"
    assert policy.pop("style-src") == "'self' 'unsafe-inline'"
    assert policy["default-src"] == "'none'"
    assert set(" ".join(policy.values()).split()) <= {"'self'", "'none'", "data:", "blob:"}


def test_gradio_is_told_of_no_host_and_the_page_finds_its_own_root(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tests/browser/test_behind_nginx.py` loads such a page under a path."""
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT", 'window.gradio_config = {"root":"."};')
    sent = {"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "https://evil.example"}
    for method, path, content in (("GET", "/", None), ("POST", JOIN, call_naming())):
        assert f"<!--{path} . None-->" in ask(uploads, method, path, content, headers=sent).text
    assert 'config.root=new URL(".",location.href).href.slice(0,-1);</script>' in ask(uploads, "GET", "/").text


def test_a_call_that_names_an_uploaded_picture_is_passed_on(uploads: Uploads) -> None:
    call = call_naming(f"{uploads.folder}/picture.png")
    assert json.dumps(json.loads(call)) in ask(uploads, "POST", JOIN, call).text


@pytest.mark.parametrize("path", ["/etc/passwd", "https://example.com/a.png", "", None, {"path": 1}, ["/etc/passwd"]])
def test_a_call_that_names_anything_else_is_refused(uploads: Uploads, path: object) -> None:
    reply = ask(uploads, "POST", JOIN, call_naming(f"{uploads.folder}/picture.png", path))
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_image"
    assert reply.json()["detail"] == reply.json()["error"]["message"]  # where gradio's page looks for it


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"x" * (MAX_CALL_BYTES + 1)])
def test_a_call_that_is_no_call_is_refused(uploads: Uploads, body: bytes) -> None:
    reply = ask(uploads, "POST", JOIN, body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_field")


def test_pictures_are_kept_and_their_paths_told(uploads: Uploads) -> None:
    reply = ask(uploads, "POST", UPLOAD, files=[("files", ("my cat.jpeg", b"cat")), ("files", ("../../b", b"dog"))])
    assert [Path(path).read_bytes() for path in reply.json()] == [b"cat", b"dog"]
    assert [Path(path).name for path in reply.json()] == ["picture.jpeg", "picture"]
    assert all(uploads.holds(path) for path in reply.json())


def test_an_upload_without_a_length_that_breaks_the_limit_is_answered_so(uploads: Uploads) -> None:
    async def pieces() -> object:
        yield b'--b\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(4):
            yield b"x" * MAX_CALL_BYTES

    reply = ask(uploads, "POST", UPLOAD, pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "image_too_large")


@pytest.mark.parametrize("num_files", [0, 5])
def test_an_upload_that_is_none_is_refused(uploads: Uploads, num_files: int) -> None:
    reply = ask(uploads, "POST", UPLOAD, files=[("files", ("a.png", b"x"))] * num_files)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_field")


def test_an_upload_for_which_there_is_no_room_is_told_to_come_back(uploads: Uploads) -> None:
    reply = ask(uploads, "POST", UPLOAD, files=[("files", ("a.png", b"x" * 250_000))])
    assert (reply.status_code, reply.headers["retry-after"], len(list(uploads.folder.iterdir()))) == (429, "60", 1)
