"""A page of another origin in a real browser: it reads answers, headers and refusals where its origin is allowed."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from support.demo import CAPTION, PICTURE
from support.serving import Server, serve

pytestmark = pytest.mark.slow

# Sends a picture as a raw body, which needs a preflight, and tells what the page may read.
ASK = """
const [url, size, done] = arguments;
const picture = size ? new Uint8Array(size) : await (await fetch('/demo.jpeg')).arrayBuffer();
try {
  const headers = {'Content-Type': 'image/jpeg', 'X-Any': '1'};
  const reply = await fetch(url + '/generate', {method: 'POST', body: picture, headers});
  done([reply.status, await reply.text(), reply.headers.get('X-Model')]);
} catch (error) { done([0, error.name, null]); }
"""


@pytest.fixture(scope="module")
def pages() -> Iterator[http.server.ThreadingHTTPServer]:
    """Pages at http://localhost:PORT, and the same ones at http://127.0.0.1:PORT, another origin."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(PICTURE.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def server(pages: http.server.ThreadingHTTPServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "BLIP2_MODEL": "demo",
        "BLIP2_UI": "off",
        "BLIP2_MAX_REQUEST_BYTES": "1000000",
        "BLIP2_CORS_ORIGINS": f"http://localhost:{pages.server_port}",
    }
    with serve(Path(tmp_path_factory.mktemp("server")), settings) as running:
        yield running


def asked(browser: webdriver.Chrome, page: str, server: Server, size: int = 0) -> Any:
    browser.get(page)
    browser.set_script_timeout(60)
    script = f"const run = async function() {{ {ASK} }}; run.apply(null, arguments);"
    return browser.execute_async_script(script, server.url, size)


def test_an_allowed_page_reads_answers_headers_and_refusals(
    browser: webdriver.Chrome, pages: http.server.ThreadingHTTPServer, server: Server
) -> None:
    page = f"http://localhost:{pages.server_port}/"
    assert asked(browser, page, server) == [200, CAPTION, "demo"]
    status, text, _ = asked(browser, page, server, 1_500_000)
    assert status == 413
    assert "bytes" in text


def test_a_page_of_another_origin_reads_nothing(
    browser: webdriver.Chrome, pages: http.server.ThreadingHTTPServer, server: Server
) -> None:
    assert asked(browser, f"http://127.0.0.1:{pages.server_port}/", server) == [0, "TypeError", None]
