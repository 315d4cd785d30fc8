"""The page at /ui in a real browser, as a person uses it."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver

from support.browser.chromium import requested_urls
from support.browser.web_page import WebPage
from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, PREFIX, QUESTION, TURN
from support.serving import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def page(page_log: webdriver.Chrome, demo_server: Server) -> WebPage:
    """The page, freshly loaded."""
    return WebPage(page_log, demo_server.url)


def test_it_says_who_answers_and_what_that_can_see(page: WebPage) -> None:
    assert "Answers by demo" in page.text
    assert "coloured shapes on a plain background and nothing else" in page.text


@pytest.mark.parametrize("give", [WebPage.upload, WebPage.drop, WebPage.paste])
def test_a_picture_is_chosen_dropped_or_pasted_and_captioned(
    page: WebPage, give: Callable[[WebPage, Path], None]
) -> None:
    give(page, PICTURE)
    page.wait_for_picture()
    page.click("caption")
    ((caption, probability),) = page.bars("captions", 1).items()
    assert caption == CAPTION
    assert probability > 0.9


def test_a_picture_is_taken_with_the_camera(page: WebPage) -> None:
    page.photograph()
    page.wait_for_picture()
    page.open_tab("Ask")
    page.click("ask")
    assert "green" in page.box("answer")  # as the pattern of Chromium's fake camera


def test_several_captions_each_with_its_bar(page: WebPage) -> None:
    page.choose_example(0)
    page.fill("num-captions", "3\t")
    page.click("caption")
    captions = page.bars("captions", 3)
    assert next(iter(captions)) == CAPTION
    assert list(captions.values()) == sorted(captions.values(), reverse=True)


def test_a_caption_that_begins_with_what_was_typed(page: WebPage) -> None:
    page.choose_example(0)
    page.fill("begins", f"{PREFIX}\n")
    assert next(iter(page.bars("captions", 1))).startswith(PREFIX)


def test_the_decoding_controls_reach_the_model(page: WebPage) -> None:
    page.choose_example(0)
    page.fill("num-captions", "16\t")
    page.click("caption")
    page.bars("captions", 16)  # a beam search finds that many different ones
    page.find_named("button", "Decoding").click()
    page.find_named("#method label", "Nucleus sampling").click()
    page.fill("temperature", "0.1\t")
    page.click("caption")
    assert list(page.bars("captions", 1)) == [CAPTION]  # cold samples are all the same


def test_a_question_is_answered(page: WebPage) -> None:
    page.choose_example(0)
    page.open_tab("Ask")
    page.fill("question", QUESTION)
    page.click("ask")
    assert page.box("answer") == ANSWER


def test_a_choice_is_made(page: WebPage) -> None:
    page.choose_example(0)
    page.open_tab("Choose")
    page.fill("closed-question", QUESTION)
    page.fill("choices", f"green\n{ANSWER}\nwhite")
    page.click("choose")
    assert next(iter(page.bars("chosen", 3))) == ANSWER


def test_three_turns_of_a_chat_that_is_then_cleared(page: WebPage) -> None:
    page.choose_example(0)
    page.open_tab("Chat")
    turns = [TURN, (FOLLOW_UP, FOLLOW_UP_ANSWER), (QUESTION, ANSWER)]
    for number, (question, _) in enumerate(turns, start=1):
        page.fill("chat-question", question)
        page.click("send")
        page.conversation(2 * number)
    assert page.conversation(6) == [message for turn in turns for message in turn]
    page.click("clear")
    assert page.conversation(0) == []


def test_another_picture_begins_another_chat(page: WebPage) -> None:
    page.choose_example(0)
    page.open_tab("Chat")
    page.fill("chat-question", f"{QUESTION}\n")
    assert page.conversation(2)[1] == ANSWER
    page.choose_example(2)
    page.conversation(0)
    page.fill("chat-question", f"{QUESTION}\n")
    assert page.conversation(2)[1] == "black"


def test_an_answer_is_shown_while_it_is_written(page: WebPage) -> None:
    page.choose_example(0)
    page.open_tab("Chat")
    page.watch_conversation()
    page.fill("chat-question", "what is in the picture?\n")
    answer = page.conversation(2)[1]
    states = page.watched_answers()
    assert states[-1] == answer
    assert len(states) > 2
    assert all(later.startswith(earlier) for earlier, later in pairwise(states))


def test_without_a_picture_the_page_asks_for_one(page: WebPage) -> None:
    for tab, button in (("Caption", "caption"), ("Ask", "ask"), ("Choose", "choose"), ("Chat", "send")):
        page.open_tab(tab)
        page.click(button)
        assert page.dismissed_error() == "There is no picture: drop, paste, choose or take one first."


def test_what_cannot_be_answered_is_said(page: WebPage, tmp_path: Path) -> None:
    (tmp_path / "text.jpeg").write_text("<b>no picture</b>")
    page.upload(tmp_path / "text.jpeg")
    page.wait_for_upload()
    page.click("caption")
    assert page.dismissed_error().startswith("The file is not a picture that can be read")
    page.open_tab("Choose")
    page.fill("choices", "only one")
    page.click("choose")
    assert "choices" in page.error()


def test_limits_on_pictures_are_said(page: WebPage, tmp_path: Path) -> None:
    Image.new("RGB", (2400, 2400)).save(tmp_path / "large.png")
    page.upload(tmp_path / "large.png")
    page.wait_for_picture()
    page.click("caption")
    assert "2400 x 2400 pixels, more than the 5000000 that are taken" in page.dismissed_error()
    (tmp_path / "heavy.png").write_bytes(os.urandom(2_000_001))
    page.remove_picture()
    page.upload(tmp_path / "heavy.png")
    assert "maximum allowed size" in page.error()


def test_a_picture_that_is_no_longer_kept_is_asked_for_again(page: WebPage, server_files: Path) -> None:
    page.upload(PICTURE)
    page.wait_for_picture()
    for file in server_files.glob("blip2-ui-*/*/picture*"):
        file.unlink()
    page.click("caption")
    assert page.error() == "The picture is no longer here: choose it again."


def test_the_page_asks_nobody_but_this_server(page: WebPage, demo_server: Server) -> None:
    page.upload(PICTURE)
    page.wait_for_picture()
    page.open_tab("Chat")
    page.fill("chat-question", f"{QUESTION}\n")
    page.conversation(2)
    asked = requested_urls(page.browser)
    assert any(url.startswith(f"{demo_server.url}/ui/gradio_api/queue/join") for url in asked)
    assert {url for url in asked if not url.startswith(f"{demo_server.url}/")} == set()
    # The policy had nothing to refuse, and nothing was missing; gradio's own script talks to the console.
    assert [entry for entry in page.browser.get_log("browser") if entry["source"] != "console-api"] == []


def test_the_browser_refuses_the_page_everything_from_elsewhere(page: WebPage, demo_server: Server) -> None:
    # The server under another name: another host to a browser, and one that would answer.
    elsewhere = demo_server.url.replace("127.0.0.1", "localhost")
    load = "const it = document.createElement(arguments[0]); it[arguments[1]] = arguments[2]; document.body.append(it);"
    for tag, attribute in (("script", "src"), ("img", "src"), ("iframe", "src")):
        page.browser.execute_script(load, tag, attribute, f"{elsewhere}/docs.json?{tag}")
    page.browser.execute_async_script(f"fetch('{elsewhere}/docs.json?fetch').catch(() => 0).then(arguments[0])")
    refusals = [entry["message"] for entry in page.browser.get_log("browser")]
    for directive in ("script-src", "img-src", "default-src", "connect-src"):
        assert any(directive in message for message in refusals), directive
