"""Debian's nginx as docs/deploy.md configures it: everything is found under /blip2/, and streams are not held back."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import bentoml
import httpx
import openai
import pytest
from browser.test_swagger import TryItOut
from selenium import webdriver

from support.browser.chromium import requested_urls
from support.browser.web_page import WebPage
from support.demo import CAPTION, PICTURE
from support.nginx import NGINX, documented, proxying
from support.serving import Server

pytestmark = pytest.mark.slow
if not NGINX.exists():
    pytest.skip("needs Debian's nginx-light", allow_module_level=True)

PREFIX_HEADER = "proxy_set_header X-Forwarded-Prefix /blip2;"


@pytest.fixture(scope="module", params=["without the prefix's header", "with it"])
def behind(
    request: pytest.FixtureRequest, demo_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the service behind nginx."""
    configuration = documented()
    if request.param == "with it":
        configuration = configuration.replace("proxy_buffering off;", f"proxy_buffering off; {PREFIX_HEADER}")
        assert PREFIX_HEADER in configuration
    with proxying(demo_server.url, tmp_path_factory.mktemp("nginx"), configuration) as url:
        yield f"{url}/blip2"


def test_endpoints_and_both_clients_find_their_way(behind: str) -> None:
    assert httpx.post(f"{behind}/generate", files={"img": PICTURE.read_bytes()}, timeout=60).text == CAPTION
    with bentoml.SyncHTTPClient(behind, timeout=60) as client:
        assert client.generate(img=PICTURE) == CAPTION
    assert openai.OpenAI(base_url=f"{behind}/v1", api_key="any").models.list().data[0].id == "demo"


def test_addresses_without_their_slash_lead_to_those_with_it(behind: str) -> None:
    for path in ("", "/ui"):
        reply = httpx.get(f"{behind}{path}", follow_redirects=True)
        assert (reply.status_code, str(reply.url)) == (200, f"{behind}{path}/")


def test_a_stream_is_not_held_back(behind: str, demo_server: Server) -> None:
    direct, proxied = (min(first_of_a_stream(url) for _ in range(5)) for url in (demo_server.url, behind))
    assert direct < 0.8
    assert proxied < (1 + direct) / 2


def first_of_a_stream(url: str) -> float:
    """Return when the first event of a stream arrived, as a share of the time until the last."""
    image = {"url": f"data:image/jpeg;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"}
    call = {"model": "blip2", "stream": True}
    call["messages"] = [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]
    began = time.monotonic()
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=call, timeout=60) as reply:
        times = [time.monotonic() - began for line in reply.iter_lines() if line.startswith("data: {")]
    return times[0] / times[-1]


def test_the_api_page_calls_the_service_under_its_path(behind: str, page_log: webdriver.Chrome) -> None:
    attempt = TryItOut(page_log, f"{behind}/", "/generate")
    assert attempt.execute() == ("200", CAPTION)
    own = {url for url in requested_urls(page_log) if not url.startswith("chrome")}
    assert f"{behind}/generate" in own
    assert all(url.startswith(f"{behind}/") for url in own), own


def test_the_page_for_people_loads_and_answers(behind: str, page_log: webdriver.Chrome, tmp_path: Path) -> None:
    page = WebPage(page_log, behind)
    page.choose_example(0)
    page.click("caption")
    assert list(page.bars("captions", 1)) == [CAPTION]
    page.remove_picture()
    page.upload(PICTURE)
    page.wait_for_picture()
    own = {url for url in requested_urls(page_log) if not url.startswith("chrome")}
    assert f"{behind}/ui/gradio_api/queue/join?" in own
    assert all(url.startswith(f"{behind}/") for url in own), own
    assert [entry for entry in page_log.get_log("browser") if entry["level"] == "SEVERE"] == []
