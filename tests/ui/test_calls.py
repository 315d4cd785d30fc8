"""A call of the page passes with what belongs to it; every other one is refused in a sentence."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.ui.calls import Calls
from blip2_serve.ui.uploads import Uploads

JOIN: dict[str, Any] = {"data": [None, "a"], "fn_index": 3, "session_hash": "x7f3", "trigger_id": 9}
CANCEL: dict[str, Any] = {"session_hash": "x7f3", "fn_index": 3, "event_id": "0a1b"}


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    """An empty folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Uploads(max_bytes=1_000_000)
    yield made
    made.remove()


def list_or_dict(value: object) -> object:
    """Check a value as gradio checks that of a component."""
    if not isinstance(value, list | dict):
        raise ValueError("neither list nor dict")
    return value


def checked(uploads: Uploads, path: str, call: object) -> dict[str, Any]:
    body = bytearray(json.dumps(call).encode())
    passed: dict[str, Any] = json.loads(Calls({3: (list_or_dict, str)}, uploads).checked(path, body))
    return passed


def test_what_the_page_sends_passes_and_the_rest_of_it_does_not(uploads: Uploads) -> None:
    more = {"event_data": {"path": 1}, "batched": True, "simple_format": True}
    assert checked(uploads, "/queue/join", {**JOIN, **more}) == JOIN
    assert checked(uploads, "/cancel", {**CANCEL, "more": 1}) == CANCEL


@pytest.mark.parametrize(
    "change",
    [
        {"fn_index": 4},
        {"fn_index": 4, "data": []},
        {"fn_index": "x"},
        {"fn_index": None},
        {"data": []},
        {"data": [1, 2, 3]},
        {"data": "ab"},
        {"data": [7, "a"]},
        {"session_hash": None},
        {"session_hash": "../x"},
        {"session_hash": "x" * 33},
        {"trigger_id": []},
        {"data": [float("nan"), 1]},
    ],
)
def test_what_does_not_fit_the_page_is_refused(uploads: Uploads, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="load the page again"):
        checked(uploads, "/queue/join", {**JOIN, **change})


def test_nesting_of_any_depth_is_refused_or_passes(uploads: Uploads) -> None:
    for depth in (100, 900, 100_000):
        body = json.dumps(JOIN).replace('"a"', "[" * depth + "]" * depth).encode()
        try:
            Calls({3: (list_or_dict, str)}, uploads).checked("/queue/join", bytearray(body))
        except InvalidField:
            assert depth > 100


def test_pictures_of_a_call_are_uploads_and_few(uploads: Uploads) -> None:
    kept = {"path": str(uploads.keep("a", "a.png", b"x"))}
    assert checked(uploads, "/queue/join", {**JOIN, "data": [kept, "a"]})["data"] == [kept, "a"]
    for files in ([{"path": "/etc/passwd"}, "a"], [[kept] * 5, "a"], [{"a": [{"path": None}]}, kept]):
        with pytest.raises(InvalidImage):
            checked(uploads, "/queue/join", {**JOIN, "data": files})
