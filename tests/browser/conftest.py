"""One server and one browser for all pages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from support.browser.chromium import CHROMIUM, DRIVER, chromium
from support.serving import Server, serve


@pytest.fixture(scope="session")
def server_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server's temporary files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def demo_server(server_files: Path) -> Iterator[Server]:
    """The real server on the demo checkpoint, with limits small enough to run into."""
    settings = {
        "BLIP2_MODEL": "demo",
        "BLIP2_UI": "on",
        "BLIP2_MAX_IMAGE_PIXELS": "5000000",
        "BLIP2_MAX_REQUEST_BYTES": "2000000",
        "TMPDIR": str(server_files),
    }
    with serve(server_files, settings) as running:
        yield running


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A fresh headless Chromium."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("needs Debian's chromium and chromium-driver")
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page_log(browser: webdriver.Chrome) -> webdriver.Chrome:
    """The browser, with the logs of earlier tests cleared."""
    for kind in ("performance", "browser"):
        browser.get_log(kind)
    return browser
