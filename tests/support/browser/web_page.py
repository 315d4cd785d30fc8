"""The page at /ui as a person uses it."""

import base64
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from support.browser.chromium import WAIT_S

_DROP = """
const [place, name, data] = arguments;
const dropped = new DataTransfer();
dropped.items.add(new File([Uint8Array.from(atob(data), each => each.charCodeAt(0))], name, {type: "image/jpeg"}));
place.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
"""
# Browsers put nothing but PNG on the clipboard.
_COPY = """
const [data, done] = arguments;
const bytes = Uint8Array.from(atob(data), each => each.charCodeAt(0));
createImageBitmap(new Blob([bytes])).then(async picture => {
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0);
    await navigator.clipboard.write([new ClipboardItem({"image/png": canvas.convertToBlob()})]);
}).then(() => done(""), error => done(String(error)));
"""
# All at once: a single bar may be gone by the time it is read.
_BARS = """
return [...document.querySelectorAll(arguments[0])].map(row => {
    const bar = row.querySelector("meter");
    return [bar.getAttribute("aria-label"), bar.value];
});
"""
_WATCH = """
window.states = [];
new MutationObserver(() => {
    const answers = document.querySelectorAll("#history [data-testid=bot]");
    const state = answers.length ? answers[answers.length - 1].innerText.trim() : "";
    if (state && state !== window.states.at(-1)) window.states.push(state);
}).observe(document.querySelector("#history"), {subtree: true, childList: true, characterData: true});
"""


class WebPage:
    """A freshly loaded page."""

    def __init__(self, browser: webdriver.Chrome, server_url: str) -> None:
        self.browser = browser
        self._wait = WebDriverWait(browser, WAIT_S)
        browser.get(f"{server_url}/ui/")
        self.find("#examples img")

    @property
    def text(self) -> str:
        """All readable text, in one line."""
        return " ".join(self.find("body").text.split())

    def open_tab(self, name: str) -> None:
        """Go to a tab."""
        self.find_named("button[role=tab]", name).click()

    def choose_example(self, number: int) -> None:
        """Take one of the pictures that the page offers."""
        self._wait.until(lambda _: len(self.all("#examples button")) > number)
        self.all("#examples button")[number].click()
        self.wait_for_picture()

    def upload(self, file: Path) -> None:
        """Choose a file, as a click on the picture's place does."""
        self.find("#picture input[type=file]").send_keys(str(file))

    def drop(self, file: Path) -> None:
        """Drag a file from elsewhere and let it go over the picture's place."""
        place = self.find("#picture button[aria-label^=Drop]")
        self.browser.execute_script(_DROP, place, file.name, _base64(file))

    def paste(self, file: Path) -> None:
        """Copy a picture elsewhere, and press the button that pastes it."""
        permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        self.browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
        assert self.browser.execute_async_script(_COPY, _base64(file)) == ""
        self.find("#picture button[aria-label^=Paste]").click()

    def photograph(self) -> None:
        """Take a picture with the camera."""
        self.find("#picture button[aria-label^=Capture]").click()
        self.find_named("#picture button", "Click to Access Webcam").click()
        self.find("#picture button[aria-label='capture photo']").click()

    def wait_for_picture(self) -> None:
        """Wait until a picture is shown and fully loaded."""
        self._wait.until(
            lambda _: self.browser.execute_script(
                "const it = document.querySelector('#picture img'); return it && it.complete && it.naturalWidth > 0"
            )
        )

    def wait_for_upload(self) -> None:
        """Wait until the server has a file, picture or not, and the page offers to remove it."""
        self.find("#picture button[aria-label^=Remove], #picture button[aria-label^=Clear]")

    def remove_picture(self) -> None:
        """Remove the picture."""
        self.wait_for_upload()
        self.find("#picture button[aria-label^=Remove], #picture button[aria-label^=Clear]").click()

    def fill(self, elem_id: str, text: str) -> None:
        """Type into a box, in place of what is there."""
        box = self.find(f"#{elem_id} textarea, #{elem_id} input[type=text], #{elem_id} input[type=number]")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def click(self, elem_id: str) -> None:
        """Press a button."""
        self.find(f"#{elem_id}").click()

    def bars(self, elem_id: str, number: int) -> dict[str, float]:
        """Wait for `number` confidence bars; returns their texts and shares."""
        self._wait.until(lambda _: len(self.all(f"#{elem_id} .confidence-set")) == number)
        return self._bars(elem_id)

    def box(self, elem_id: str) -> str:
        """Wait until a box has text, and return it."""
        return str(
            self._wait.until(lambda _: self.find(f"#{elem_id} textarea, #{elem_id} input").get_property("value"))
        )

    def conversation(self, number: int) -> list[str]:
        """Wait until the conversation has `number` complete messages, and return them."""
        self._wait.until(lambda _: len(self._messages()) == number and all(self._messages()) and not self._is_busy())
        return self._messages()

    def error(self) -> str:
        """Wait until an error has faded in, and return it."""
        self._wait.until(lambda _: self.find("[data-testid=toast-body]").value_of_css_property("opacity") == "1")
        return self.find("[data-testid=toast-text]").text

    def dismissed_error(self) -> str:
        """Wait for an error, dismiss it and return it."""
        message = self.error()
        self.find("[data-testid=toast-close]").click()
        self._wait.until(lambda _: not self.all("[data-testid=toast-body]"))
        return message

    def find(self, selector: str) -> WebElement:
        """Wait for an element that matches, and return the first."""
        return self._wait.until(lambda _: self.browser.find_element(By.CSS_SELECTOR, selector))

    def find_named(self, selector: str, text: str) -> WebElement:
        """Wait for an element that matches and whose text begins with `text`, and return the first."""
        return self._wait.until(lambda _: next((it for it in self.all(selector) if it.text.startswith(text)), None))

    def all(self, selector: str) -> list[WebElement]:
        """Return all matching elements that are there now."""
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def watch_conversation(self) -> None:
        """Record every state of the last answer from now on."""
        self.browser.execute_script(_WATCH)

    def watched_answers(self) -> list[str]:
        """Return the recorded states, without repetitions and without the empty one."""
        return [str(state) for state in self.browser.execute_script("return window.states")]

    def _bars(self, elem_id: str) -> dict[str, float]:
        rows = self.browser.execute_script(_BARS, f"#{elem_id} .confidence-set")
        return {text: float(share) for text, share in rows}

    def _messages(self) -> list[str]:
        texts = (
            "return [...document.querySelectorAll('#history [role=log] [data-testid]')].map(it => it.innerText.trim())"
        )
        return [str(text) for text in self.browser.execute_script(texts)]

    def _is_busy(self) -> bool:
        return bool(self.all("#history .generating, #history .pending"))


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
