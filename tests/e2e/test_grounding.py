"""Confidence, abstaining and explanations on the real server with the demo checkpoints."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.demo import CAPTION, PICTURE
from support.serving import Server

SURE, IMPOSSIBLE = 0.9, 1.0


@pytest.fixture(scope="module")
def client(demo: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=60) as http:
        yield http


def post(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    name = "imgs" if path == "/batch" else "img"
    answer = client.post(path, files=[(name, ("demo.jpeg", PICTURE.read_bytes()))], data=fields)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_sure_caption_is_told_with_its_confidence(client: httpx.Client) -> None:
    answer = post(client, "/generate", min_confidence=SURE)
    assert answer.text == CAPTION
    assert float(answer.headers["X-Confidence"]) >= SURE
    assert "X-Needs-Review" not in answer.headers


def test_a_doubtful_caption_is_an_empty_body_that_says_so(client: httpx.Client) -> None:
    answer = post(client, "/generate", min_confidence=IMPOSSIBLE)
    assert (answer.text, answer.headers["X-Needs-Review"]) == ("", "true")


def test_doubtful_captions_are_null_in_json(client: httpx.Client) -> None:
    captions = post(client, "/captions", num_captions=3, min_confidence=SURE).json()["captions"]
    assert captions[0]["text"] == CAPTION
    assert [caption["text"] is None for caption in captions] == [caption["needs_review"] for caption in captions]
    assert {caption["needs_review"] for caption in captions} == {False, True}
    (result,) = post(client, "/batch", min_confidence=IMPOSSIBLE).json()["results"]
    assert (result["text"], result["needs_review"]) == (None, True)


def test_answers_to_questions_have_no_confidence(client: httpx.Client) -> None:
    assert "X-Confidence" not in post(client, "/vqa", txt="what color is the background?").headers
    answer = client.post(
        "/batch",
        files=[("imgs", ("demo.jpeg", PICTURE.read_bytes()))],
        data={"task": "vqa", "txt": "what color is the background?", "min_confidence": SURE},
    )
    assert answer.json()["error"]["param"] == "min_confidence"


def test_a_model_that_nobody_calibrated_refuses_to_abstain(http: httpx.Client) -> None:
    answer = http.post("/generate", files={"img": PICTURE.read_bytes()}, data={"min_confidence": 0.5})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "min_confidence")
    assert "blip2-serve calibrate" in answer.json()["error"]["message"]


def test_a_swapped_word_is_unsupported(client: httpx.Client) -> None:
    swapped = CAPTION.replace("red", "green")
    wrong, right = post(client, "/match", texts=[swapped, CAPTION], explain=True).json()["matches"]
    assert wrong["unsupported"] == ["green"]
    assert right["unsupported"] == []
    assert min(wrong["words"], key=lambda word: word["support"])["word"] == "green"


def test_own_captions_are_explained(client: httpx.Client) -> None:
    (caption,) = post(client, "/captions", num_captions=1, explain=True).json()["captions"]
    assert [word["word"] for word in caption["words"]] == CAPTION.split()
    assert caption["unsupported"] == []
    assert caption["itm"] > SURE
