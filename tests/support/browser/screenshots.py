"""Draws docs/screenshots/ anew: every tab of the page at /ui on the demo checkpoint, and the page at /.

`make screenshots`; then look at them.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from support.browser.chromium import WAIT_S, chromium
from support.browser.web_page import WebPage
from support.serving import ROOT, serve

FOLDER = ROOT / "docs" / "screenshots"
WIDTH, HEIGHT = 1120, 760


def caption(page: WebPage) -> None:
    page.fill("num-captions", "3\t")
    page.click("caption")
    page.bars("captions", 3)


def decoding(page: WebPage) -> None:
    page.find_named("button", "Decoding").click()
    page.browser.execute_script("arguments[0].scrollIntoView({block: 'end'})", page.find("#repetition-penalty"))


def ask(page: WebPage) -> None:
    page.open_tab("Ask")
    page.fill("question", "what color is the background?")
    page.click("ask")
    page.box("answer")


def choose(page: WebPage) -> None:
    page.open_tab("Choose")
    page.fill("closed-question", "what shape is on the right?")
    page.fill("choices", "star\ndiamond\ncircle")
    page.click("choose")
    page.bars("chosen", 3)


def chat(page: WebPage) -> None:
    page.open_tab("Chat")
    for number, question in enumerate(("what shape is on the right?", "what color is it?"), start=1):
        page.fill("chat-question", question)
        page.click("send")
        page.conversation(2 * number)


def refusal(page: WebPage) -> None:
    page.remove_picture()
    page.click("caption")
    page.error()


TABS: dict[str, Callable[[WebPage], None]] = {
    "caption": caption,
    "decoding": decoding,
    "ask": ask,
    "choose": choose,
    "chat": chat,
    "refusal": refusal,
}


def main() -> None:
    """Serve, browse, save."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, serve(Path(home), {"BLIP2_MODEL": "demo", "BLIP2_UI": "on"}) as server:
        profile = Path(home) / "profile"
        with chromium(profile, WIDTH, HEIGHT + 140) as browser:  # the window's frame takes some of it
            for name, act in TABS.items():
                page = WebPage(browser, server.url)
                page.choose_example(0)
                act(page)
                save(browser, name)
            browser.get(server.url)
            WebDriverWait(browser, WAIT_S).until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".opblock"))
            save(browser, "api")


def save(browser: webdriver.Chrome, name: str) -> None:
    """Save the shown page in few colours, which makes a small file."""
    path = FOLDER / f"{name}.png"
    browser.save_screenshot(str(path))
    with Image.open(path) as shown:
        shown.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
