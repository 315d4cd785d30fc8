"""The Swagger page's "Try it out", as a person uses it: choose a picture, fill in or leave alone, Execute, read."""

import hashlib
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from support.browser.chromium import WAIT_S, requested_urls
from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, PREFIX, QUESTION, TURN
from support.serving import Server

pytestmark = pytest.mark.slow


class TryItOut:
    """One endpoint's form on a freshly loaded page."""

    def __init__(self, browser: webdriver.Chrome, url: str, path: str, picture: Path | None = PICTURE) -> None:
        browser.get(url)
        self._wait = WebDriverWait(browser, WAIT_S)
        self._block = self._wait.until(
            lambda _: browser.find_element(By.XPATH, f"//*[@data-path='{path}']/ancestor::div[contains(@class,'post')]")
        )
        self._find(".opblock-summary-control").click()
        self._find(".try-out__btn").click()
        if picture is not None:
            self._find("input[type=file]").send_keys(str(picture))

    def fill(self, field: str, text: str) -> None:
        """Type into a field's box."""
        self._row(field, "input[type=text]").send_keys(text)

    def add_turn(self, question: str, answer: str) -> None:
        """Add a list to the field `context`, two items to that, and type into both."""
        self._row("context", ".json-schema-array > button.json-schema-form-item-add").click()
        for number, text in enumerate((question, answer), start=1):
            self._row("context", ".json-schema-array .json-schema-array > button").click()
            box = f".json-schema-array .json-schema-array > .json-schema-form-item:nth-child({number}) input"
            self._row("context", box).send_keys(text)

    def execute(self) -> tuple[str, str]:
        """Press Execute; returns the status and the body that the page then shows."""
        self._find("button.execute").click()
        answer = ".live-responses-table tbody .response"
        status = self._find(f"{answer} .response-col_status").text
        return status.splitlines()[0], self._find(f"{answer} .highlight-code code, {answer} .highlight-code pre").text

    def _row(self, field: str, selector: str) -> WebElement:
        return self._find(f"tr[data-property-name='{field}'] {selector}")

    def _find(self, selector: str) -> WebElement:
        return self._wait.until(lambda _: self._block.find_element(By.CSS_SELECTOR, selector))


def test_a_caption_with_every_other_field_left_alone(browser: webdriver.Chrome, demo_server: Server) -> None:
    page = TryItOut(browser, demo_server.url, "/generate")
    assert page.execute() == ("200", CAPTION)


def test_a_caption_that_begins_with_what_was_typed(browser: webdriver.Chrome, demo_server: Server) -> None:
    page = TryItOut(browser, demo_server.url, "/generate")
    page.fill("txt", PREFIX)
    status, caption = page.execute()
    assert status == "200"
    assert caption.startswith(PREFIX)
    assert len(caption) > len(PREFIX)


def test_an_answer_with_a_number_typed_in(browser: webdriver.Chrome, demo_server: Server) -> None:
    page = TryItOut(browser, demo_server.url, "/vqa")
    page.fill("txt", QUESTION)
    page.fill("max_new_tokens", "20")
    assert page.execute() == ("200", ANSWER)


def test_a_conversation_with_an_earlier_turn(browser: webdriver.Chrome, demo_server: Server) -> None:
    page = TryItOut(browser, demo_server.url, "/chat")
    page.add_turn(*TURN)
    page.fill("txt", FOLLOW_UP)
    assert page.execute() == ("200", FOLLOW_UP_ANSWER)


def test_a_refusal_is_shown_with_the_field_it_names(browser: webdriver.Chrome, demo_server: Server) -> None:
    page = TryItOut(browser, demo_server.url, "/generate")
    page.fill("num_beams", "16")
    page.fill("top_p", "1")
    page.fill("min_new_tokens", "31")
    status, body = page.execute()
    assert status == "400"
    assert '"param": "min_new_tokens"' in body


def test_a_question_about_a_picture_that_was_sent_before(browser: webdriver.Chrome, demo_server: Server) -> None:
    TryItOut(browser, demo_server.url, "/generate").execute()
    page = TryItOut(browser, demo_server.url, "/vqa", picture=None)
    page.fill("img_id", hashlib.sha256(PICTURE.read_bytes()).hexdigest())
    page.fill("txt", QUESTION)
    assert page.execute() == ("200", ANSWER)


def test_the_page_asks_nobody_but_this_server(page_log: webdriver.Chrome, demo_server: Server) -> None:
    TryItOut(page_log, demo_server.url, "/generate").execute()
    asked = requested_urls(page_log)
    assert f"{demo_server.url}/docs.json" in asked
    assert f"{demo_server.url}/generate" in asked
    assert {url for url in asked if not url.startswith(f"{demo_server.url}/")} == set()
    assert page_log.get_log("browser") == []  # and the policy had nothing to refuse


def test_the_browser_refuses_the_page_everything_from_elsewhere(
    page_log: webdriver.Chrome, demo_server: Server
) -> None:
    page_log.get(demo_server.url)
    # The server under another name: another host to a browser, and one that would answer.
    elsewhere = demo_server.url.replace("127.0.0.1", "localhost")
    load = "const it = document.createElement(arguments[0]); it[arguments[1]] = arguments[2];"
    for tag, attribute in (("script", "src"), ("img", "src"), ("iframe", "src")):
        page_log.execute_script(f"{load} document.body.append(it)", tag, attribute, f"{elsewhere}/docs.json?{tag}")
    page_log.execute_async_script(f"fetch('{elsewhere}/docs.json?fetch').catch(() => 0).then(arguments[0])")
    page_log.execute_script(
        "const it = document.createElement('script'); it.text = 'window.ran = 1'; document.body.append(it)"
    )
    refusals = [entry["message"] for entry in page_log.get_log("browser")]
    for directive in ("script-src", "img-src", "default-src", "connect-src"):
        assert any(directive in message for message in refusals), directive
    assert page_log.execute_script("return window.ran") is None
