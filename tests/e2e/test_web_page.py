"""The page at /ui on the real server, without a browser; tests/browser has one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.pictures import jpeg
from support.serving import Server, serve

# Logs every host that the server's processes look up or connect to, from before their first import.
LISTENER = """
import os, sys
def note(event, args):
    if event in ("socket.getaddrinfo", "socket.connect"):
        address = args[0] if event == "socket.getaddrinfo" else args[1]
        host = address[0] if isinstance(address, tuple) else address
        with open(os.environ["LISTENER_LOG"], "a") as log:
            log.write(f"{event} {host}\\n")
sys.addaudithook(note)
"""
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's temporary folder, with the listener and a killed process's pictures in it."""
    made = tmp_path_factory.mktemp("page")
    (made / "sitecustomize.py").write_text(LISTENER)
    killed = made / "blip2-ui-of-a-killed-process"
    killed.mkdir()
    (killed / "picture.png").write_bytes(b"x")
    os.utime(killed, (0, 0))
    return made


@pytest.fixture(scope="module")
def page_server(tiny_checkpoints: dict[str, Path], folder: Path) -> Iterator[Server]:
    """The real server on the tiny OPT checkpoint; it must leave no uploads behind."""
    settings = {
        "BLIP2_MODEL": str(tiny_checkpoints["opt"]),
        "BLIP2_UI": "on",
        "BLIP2_MAX_IMAGE_PIXELS": "10000",
        "BLIP2_MAX_REQUEST_BYTES": str(MAX_BYTES),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(folder),
        "LISTENER_LOG": str(folder / "asked"),
    }
    with serve(folder, settings) as running:
        yield running
    assert list(folder.glob("blip2-ui-*")) == []


@pytest.fixture(scope="module")
def page(page_server: Server) -> Iterator[httpx.Client]:
    """A client of the page."""
    with httpx.Client(base_url=f"{page_server.url}/ui", timeout=60) as client:
        yield client


def config_of(page: httpx.Client) -> dict[str, Any]:
    """Return the configuration that gradio's script reads from the page."""
    text = page.get("/").text
    start = text.index("window.gradio_config = ") + len("window.gradio_config = ")
    config: dict[str, Any] = json.JSONDecoder().raw_decode(text, start)[0]
    return config


def upload(page: httpx.Client, data: bytes) -> str:
    """Upload a picture as the page does; return its path on the server."""
    paths: list[str] = page.post("/gradio_api/upload", files={"files": ("a.jpeg", data)}).json()
    return paths[0]


def asked(page: httpx.Client, path: str) -> dict[str, Any]:
    """Press "Ask" about a picture; return the final message."""
    button = next(part["id"] for part in config_of(page)["components"] if part["props"].get("elem_id") == "ask")
    event = next(each for each in config_of(page)["dependencies"] if [button, "click"] in each["targets"])
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    call = {"data": [picture, "what?"], "fn_index": event["id"], "session_hash": "someone"}
    assert page.post("/gradio_api/queue/join", json=call).status_code == 200
    with page.stream("GET", "/gradio_api/queue/data", params={"session_hash": "someone"}) as events:
        for line in events.iter_lines():
            if line.startswith("data:") and '"process_completed"' in line:
                message: dict[str, Any] = json.loads(line.removeprefix("data:"))
                return message
    raise AssertionError("no answer came")


def test_a_picture_that_was_sent_is_answered_about(page: httpx.Client) -> None:
    message = asked(page, upload(page, jpeg(20, 20)))
    assert message["success"]
    assert isinstance(message["output"]["data"][0], str)


def test_the_limit_on_pixels_is_that_of_the_endpoints(page: httpx.Client) -> None:
    message = asked(page, upload(page, jpeg(200, 200)))
    assert not message["success"]
    assert "more than the 10000 that are taken" in message["output"]["error"]


def test_the_limit_on_bytes_is_that_of_the_endpoints(page: httpx.Client) -> None:
    assert config_of(page)["max_file_size"] == MAX_BYTES
    reply = page.post("/gradio_api/upload", files={"files": ("a.png", b"x" * MAX_BYTES)})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "image_too_large")


def test_a_file_of_the_machine_cannot_be_named(page: httpx.Client, folder: Path) -> None:
    (folder / "secret.png").write_bytes(jpeg(20, 20))
    for path in (str(folder / "secret.png"), "/etc/passwd", "http://127.0.0.1:1/a.png"):
        call = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, "what?"], "fn_index": 0}
        assert page.post("/gradio_api/queue/join", json={**call, "session_hash": "x"}).status_code == 400
        assert page.get(f"/gradio_api/file={path}").status_code == 404


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [[]], [{"role": 1}], {"path": None}, {"url": "/etc/passwd"}])
def test_values_that_do_not_fit_leave_no_traceback(page: httpx.Client, page_server: Server, value: object) -> None:
    functions = {each["id"]: len(each["inputs"]) for each in config_of(page)["dependencies"]}
    for number, num_inputs in functions.items():
        call = {"data": [value] * num_inputs, "fn_index": number, "session_hash": f"bad{number}"}
        assert page.post("/gradio_api/queue/join", json=call).status_code in (200, 400)
    asked(page, upload(page, jpeg(20, 20)))
    assert "Traceback" not in page_server.log.read_text()


def test_a_picture_is_kept_in_a_private_folder_below_the_temporary_one(page: httpx.Client, folder: Path) -> None:
    kept = Path(upload(page, jpeg(20, 20)))
    (own,) = folder.glob("blip2-ui-*")  # the killed process's folder is gone
    assert kept.is_relative_to(own)
    assert own.stat().st_mode & 0o777 == 0o700


def test_nobody_else_is_asked(page: httpx.Client, folder: Path) -> None:
    asked(page, upload(page, jpeg(20, 20)))
    hosts = {line.split(" ", 1)[1] for line in (folder / "asked").read_text().splitlines()}
    assert {host for host in hosts if host not in ("127.0.0.1", "localhost") and not host.startswith("/")} == set()
    assert "127.0.0.1" in hosts  # the listener works


def test_the_examples_are_there(page: httpx.Client) -> None:
    (examples,) = [part for part in config_of(page)["components"] if part["props"].get("elem_id") == "examples"]
    urls = [sample[0]["url"] for sample in examples["props"]["samples"]]
    assert len(urls) == 3
    for url in urls:
        assert page.get(httpx.URL(url).path.removeprefix("/ui")).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("reason", ["the setting", "no gradio"])
def test_without_the_page_the_service_runs(tiny_checkpoints: dict[str, Path], tmp_path: Path, reason: str) -> None:
    settings = {"BLIP2_MODEL": str(tiny_checkpoints["opt"]), "BLIP2_UI": "on", "TMPDIR": str(tmp_path)}
    if reason == "the setting":
        settings["BLIP2_UI"] = "off"
    else:
        (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError(\"No module named 'gradio'\")")
        settings["PYTHONPATH"] = str(tmp_path)
    with serve(tmp_path, settings) as server:
        assert httpx.get(f"{server.url}/ui/").status_code == 404
        assert httpx.get(f"{server.url}/ui/").json()["error"]["code"] == "not_found"
        assert httpx.post(f"{server.url}/vqa", files={"img": jpeg(20, 20)}, timeout=60).status_code == 200
        told = "No page at /ui: No module named 'gradio'. To have it: pip install -r requirements-ui.txt"
        assert (told in server.log.read_text()) == (reason == "no gradio")
