"""captions, choose and batch over HTTP: every media type, and the refusals."""

import base64
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import bentoml
import httpx
import pytest
from e2e.test_refusals import refused

from blip2_serve.api.native.batch import Answered
from blip2_serve.api.native.caption_several import Captioned
from support.pictures import damaged, jpeg
from support.serving import Server

ENCODED = base64.b64encode(jpeg()).decode()
IMG = {"img": ("a.jpg", jpeg(), "image/jpeg")}
SHORT = {"max_new_tokens": 8}


def test_captions_come_best_first_with_what_they_are_worth(http: httpx.Client) -> None:
    reply = http.post("/captions", files=IMG, data={**SHORT, "num_captions": 4})
    assert (reply.status_code, reply.headers["x-model"]) == (200, "tiny-opt")
    captions = reply.json()["captions"]
    assert 1 < len(captions) <= 4
    assert [each["score"] for each in captions] == sorted((each["score"] for each in captions), reverse=True)
    for each in captions:
        assert set(each) == set(Captioned.model_fields)
        assert each["probability"] == pytest.approx(math.exp(each["score"]))


def test_one_caption_is_that_of_generate(http: httpx.Client) -> None:
    (caption,) = http.post("/captions", files=IMG, data={**SHORT, "num_captions": 1, "txt": "a"}).json()["captions"]
    reply = http.post("/generate", files=IMG, data={**SHORT, "txt": "a"})
    assert caption["text"] == reply.text
    assert (str(caption["num_tokens"]), caption["finish_reason"]) == (
        reply.headers["x-new-tokens"],
        reply.headers["x-finish-reason"],
    )


def test_a_loop_is_left_to_generate_and_not_to_captions(http: httpx.Client) -> None:
    options = {"num_beams": 1, "max_new_tokens": 200, "min_new_tokens": 200}
    (guarded,) = http.post("/captions", files=IMG, data={**options, "num_captions": 1}).json()["captions"]
    assert guarded["guards"] == ["no_repeat_ngram_size"]
    assert guarded["text"] != http.post("/generate", files=IMG, data=options).text
    assert guarded["text"] == http.post("/generate", files=IMG, data={**options, "no_repeat_ngram_size": 3}).text


def test_choices_come_most_probable_first_in_every_kind_of_body(http: httpx.Client) -> None:
    choices = ["a", "b", "c d"]
    replies = [
        http.post("/choose", json={"img": ENCODED, "txt": "what?", "choices": choices}),
        http.post("/choose", files=IMG, data={"txt": "what?", "choices": json.dumps(choices)}),
        http.post("/choose", files=IMG, data={"txt": "what?", "choices": choices[::-1]}),
        http.post("/choose", data={"img": ENCODED, "txt": "what?", "choices": choices}),
    ]
    assert {reply.status_code for reply in replies} == {200}
    found = replies[0].json()["choices"]
    assert all(reply.json()["choices"] == found for reply in replies)
    assert {each["text"] for each in found} == set(choices)
    assert [each["probability"] for each in found] == sorted((each["probability"] for each in found), reverse=True)
    assert sum(each["probability"] for each in found) == pytest.approx(1)


def test_without_choices_it_is_yes_or_no(http: httpx.Client) -> None:
    found = http.post("/choose", files=IMG).json()["choices"]
    assert {each["text"] for each in found} == {"yes", "no"}


def test_sixty_four_choices_are_compared(http: httpx.Client) -> None:
    reply = http.post("/choose", json={"img": ENCODED, "choices": [f"number {n}" for n in range(64)]})
    assert len(reply.json()["choices"]) == 64


@pytest.mark.parametrize("task", ["caption", "vqa"])
def test_a_batch_says_what_each_picture_alone_is_answered(http: httpx.Client, task: str) -> None:
    pictures = [jpeg(seed=seed) for seed in range(20)]
    texts = [f"a {seed}" for seed in range(20)]
    path = {"caption": "/generate", "vqa": "/vqa"}[task]
    alone = [
        http.post(path, files={"img": picture}, data={**SHORT, "txt": text}).text
        for picture, text in zip(pictures, texts, strict=True)
    ]
    parts = [("imgs", (f"{place}.jpg", picture, "image/jpeg")) for place, picture in enumerate(pictures)]
    replies = [
        http.post("/batch", files=parts, data={**SHORT, "task": task, "txt": texts}),
        http.post(
            "/batch",
            json={"imgs": [base64.b64encode(each).decode() for each in pictures], "txt": texts, "task": task, **SHORT},
        ),
    ]
    for reply in replies:
        results = reply.json()["results"]
        assert [result["text"] for result in results] == alone
        assert [result["image_id"] for result in results] == [hashlib.sha256(each).hexdigest() for each in pictures]
        assert set(results[0]) == set(Answered.model_fields)


def test_bad_pictures_are_entries_among_the_answers(http: httpx.Client) -> None:
    body = {"imgs": ["http://127.0.0.1:1/a.jpg", ENCODED, base64.b64encode(b"hello").decode(), 5], **SHORT}
    results = http.post("/batch", json=body).json()["results"]
    assert [result.get("error", {}).get("code") for result in results] == [
        "url_not_allowed",
        None,
        "unsupported_image",
        "invalid_image",
    ]
    assert set(results[0]["error"]) == {"message", "type", "param", "code"}
    assert "BLIP2_IMAGE_URLS" in results[0]["error"]["message"]


def test_a_batch_may_be_larger_than_one_picture_but_not_boundless(http: httpx.Client) -> None:
    padded = jpeg() + bytes(900_000)
    parts = [("imgs", ("a.jpg", padded, "image/jpeg"))] * 2
    results = http.post("/batch", files=parts, data=SHORT).json()["results"]
    assert [result["image_id"] for result in results] == [hashlib.sha256(padded).hexdigest()] * 2
    too_large = jpeg() + bytes(1_000_000)
    results = http.post("/batch", files=[parts[0], ("imgs", ("b.jpg", too_large))], data=SHORT).json()["results"]
    assert ["text" in results[0], results[1]["error"]["code"]] == [True, "image_too_large"]
    refused(http.post("/batch", files=[("imgs", ("a.jpg", padded))] * 3), 413)
    refused(http.post("/captions", files={"img": jpeg() + bytes(1_000_000)}), 413)


REFUSED = [
    ("/captions", "num_captions", 17),
    ("/captions", "num_captions", 0),
    ("/captions", "choices", ["a", "b"]),
    ("/captions", "num_beams", 17),
    ("/choose", "choices", ["a"]),
    ("/choose", "choices", ["a", "a"]),
    ("/choose", "choices", ["a", ""]),
    ("/choose", "choices", [str(number) for number in range(65)]),
    ("/choose", "choices", ["a", "x" * 300]),
    ("/choose", "normalize", "mean"),
    ("/choose", "max_new_tokens", 5),
    ("/choose", "txt", "x" * 600),
]


@pytest.mark.parametrize(("path", "name", "value"), REFUSED)
def test_what_breaks_the_rules_is_refused_by_name(
    http: httpx.Client, path: str, name: str, value: str | int | list[str]
) -> None:
    refused(http.post(path, json={"img": ENCODED, name: value}), 400, name)
    refused(http.post(path, files=IMG, data={name: value}), 400, name)
    refused(http.post(path, data={"img": ENCODED, name: value}), 400, name)


@pytest.mark.parametrize(
    ("name", "value"), [("task", "chat"), ("txt", ["a", "b", "c"]), ("nonsense", "1"), ("img", ENCODED)]
)
def test_batches_that_break_the_rules_are_refused_by_name(
    http: httpx.Client, name: str, value: str | list[str]
) -> None:
    refused(http.post("/batch", json={"imgs": [ENCODED, ENCODED], name: value}), 400, name)
    refused(http.post("/batch", files=[("imgs", jpeg())] * 2, data={name: value}), 400, name)


def test_a_batch_has_one_to_sixty_four_pictures(http: httpx.Client) -> None:
    assert "imgs is missing" in refused(http.post("/batch", data={"txt": "hi"}), 400, "imgs")
    refused(http.post("/batch", json={"imgs": []}), 400, "imgs")
    assert "64" in refused(http.post("/batch", files=[("imgs", b"x")] * 65), 400, "imgs")
    refused(http.post("/batch", json={"imgs": {"a": ENCODED}}), 400, "imgs")


@pytest.mark.parametrize("path", ["/captions", "/choose"])
def test_a_picture_is_needed_and_only_one(http: httpx.Client, path: str) -> None:
    assert "img is missing" in refused(http.post(path, data={"txt": "hi"}), 400, "img")
    refused(http.post(path, files=[("img", jpeg()), ("img", jpeg())]), 400, "img")


def status_once_there_is_room(http: httpx.Client, options: dict[str, int]) -> int:
    """Ask again while the server has enough to do: for the moment that it takes to notice who has left."""
    deadline = time.monotonic() + 5
    while (reply := http.post("/generate", files=IMG, data=options)).status_code == 429:
        assert time.monotonic() < deadline, "the work of the caller that left still counts"
        time.sleep(0.1)
    return reply.status_code


def test_a_batch_ends_when_its_caller_vanishes(http: httpx.Client, server: Server) -> None:
    options = {"num_beams": 16, "max_new_tokens": 256, "min_new_tokens": 256}
    parts = [("imgs", (f"{seed}.jpg", jpeg(seed=seed))) for seed in range(64)]
    with pytest.raises(httpx.ReadTimeout):
        http.post("/batch", files=parts, data=options, timeout=0.5)
    assert status_once_there_is_room(http, options) == 200
    server.logged("POST /batch 499")


@pytest.mark.parametrize("path", ["/captions", "/choose", "/batch"])
def test_random_bytes_in_every_part_of_a_request_never_give_a_5xx(http: httpx.Client, path: str) -> None:
    rng = random.Random(0)
    name = "imgs" if path == "/batch" else "img"
    fields = {"choices": ["a", "b"]} if path == "/choose" else {"txt": "hi", "max_new_tokens": "2"}
    whole = httpx.Request("POST", "http://x/", files=[(name, jpeg())], data=fields)
    body, content_type = whole.read(), whole.headers["content-type"]
    for _ in range(60):
        reply = http.post(path, content=damaged(body, rng), headers={"content-type": content_type})
        assert reply.status_code < 500, reply.text


@pytest.fixture
def client(server: Server) -> Iterator[bentoml.SyncHTTPClient]:
    with bentoml.SyncHTTPClient(server.url) as sync_client:
        yield sync_client


def test_bentomls_client_sends_lists(client: bentoml.SyncHTTPClient, http: httpx.Client, tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(jpeg())
    captions = http.post("/captions", files=IMG, data={**SHORT, "num_captions": 2}).json()
    assert client.captions(img=picture, num_captions=2, **SHORT) == captions
    chosen = http.post("/choose", json={"img": ENCODED, "txt": "what?", "choices": ["a", "b"]}).json()
    assert client.choose(img=picture, txt="what?", choices=["a", "b"]) == chosen
    answered = client.batch(imgs=[picture, picture], txt=["a", "b"], task="vqa", **SHORT)
    assert [result["image_id"] for result in answered["results"]] == [hashlib.sha256(jpeg()).hexdigest()] * 2


def test_bentomls_client_is_told_which_picture_is_none(client: bentoml.SyncHTTPClient, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    answered, refused = client.batch(imgs=[tmp_path / "a.jpg", tmp_path / "b.jpg"], **SHORT)["results"]
    assert set(answered) == set(Answered.model_fields)
    assert refused["error"]["code"] == "unsupported_image"


def test_the_openapi_page_shows_what_is_answered(http: httpx.Client) -> None:
    spec = http.get("/docs.json").json()
    shapes = spec["components"]["schemas"]
    assert set(shapes["Captioned"]["properties"]) >= {"text", "score", "guards"}
    assert set(shapes["Choice"]["properties"]) == {"text", "probability", "log_likelihood"}
    assert set(shapes["ChatChoice"]["properties"]) == {"index", "message", "logprobs", "finish_reason"}
    encoding = {
        path: spec["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["encoding"]
        for path in ("/choose", "/batch")
    }
    assert encoding == {"/choose": {"choices": {"contentType": "application/json"}}, "/batch": {}}
