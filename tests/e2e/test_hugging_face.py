"""The Hugging Face Hub's own client, with a URL for its model, against the real server with the demo checkpoint."""

import asyncio
import base64
import json
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from support.demo import ANSWER, CAPTION, PICTURE, PREFIX, QUESTION
from support.serving import Server

IMAGE = PICTURE.read_bytes()
INLINE = base64.b64encode(IMAGE).decode()


@pytest.fixture(scope="module")
def client(demo: Server) -> Callable[[str], InferenceClient]:
    return lambda task: InferenceClient(model=f"{demo.url}/hf/{task}", token="any")


@pytest.fixture(scope="module")
def post(demo: Server) -> Callable[..., httpx.Response]:
    return lambda task, **body: httpx.post(f"{demo.url}/hf/{task}", timeout=60, **body)


Client = Callable[[str], InferenceClient]
Post = Callable[..., httpx.Response]


# The client itself refuses other kinds, such as PIL's pictures, for these tasks.
@pytest.mark.parametrize("picture", [IMAGE, PICTURE, str(PICTURE)], ids=["bytes", "path", "text"])
def test_a_picture_is_captioned_however_the_client_takes_it(client: Client, picture: Any) -> None:
    assert client("image-to-text").image_to_text(picture).generated_text == CAPTION


def test_a_file_is_captioned_as_curl_sends_it(demo: Server) -> None:
    command = ["curl", "-s", "--data-binary", f"@{PICTURE}", f"{demo.url}/hf/image-to-text"]
    assert json.loads(subprocess.check_output(command)) == [{"generated_text": CAPTION}]


def test_parameters_mean_what_they_mean_to_transformers_and_others_are_ignored(post: Post) -> None:
    parameters = {"max_new_tokens": 3, "generate_kwargs": {"num_beams": 1, "use_cache": True}}
    reply = post("image-to-text", json={"inputs": INLINE, "parameters": parameters, "options": {"use_cache": False}})
    assert reply.json() == [{"generated_text": "a yellow star"}]
    assert reply.headers["x-ignored"] == "options, parameters.use_cache"
    habitual = {"temperature": 0, "max_new_tokens": 4096, "prompt": PREFIX}
    assert post("image-to-text", json={"inputs": INLINE, "parameters": habitual}).json() == [
        {"generated_text": CAPTION}
    ]


def test_a_question_is_answered_with_the_probability_of_the_answer(client: Client) -> None:
    (answer,) = client("visual-question-answering").visual_question_answering(IMAGE, QUESTION)
    assert answer.answer == ANSWER
    assert 0.9 < answer.score <= 1


def test_several_answers_come_most_probable_first_and_differ(client: Client) -> None:
    answers = client("visual-question-answering").visual_question_answering(IMAGE, QUESTION, top_k=3)
    assert answers[0].answer == ANSWER
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert len({answer.answer for answer in answers}) == len(answers) > 1


def test_a_question_beside_the_picture_is_read_as_the_javascript_client_nests_it(post: Post) -> None:
    body = {"inputs": {"image": INLINE, "question": QUESTION}, "parameters": {"top_k": 1}}
    assert [each["answer"] for each in post("visual-question-answering", json=body).json()] == [ANSWER]


def test_labels_are_ranked_as_choose_ranks_them(client: Client, demo: Server) -> None:
    labels = ["a yellow star", "nothing", "a circle"]
    ranked = client("zero-shot-image-classification").zero_shot_image_classification(IMAGE, labels)
    chosen = httpx.post(f"{demo.url}/choose", json={"img": INLINE, "choices": labels}, timeout=60).json()["choices"]
    assert [(each.label, each.score) for each in ranked] == [(each["text"], each["probability"]) for each in chosen]
    assert sum(each.score for each in ranked) == pytest.approx(1)


def test_a_hypothesis_template_puts_labels_into_words(client: Client, demo: Server) -> None:
    ranked = client("zero-shot-image-classification").zero_shot_image_classification(
        IMAGE, ["star", "circle"], hypothesis_template="a yellow {}"
    )
    fields = {"img": INLINE, "choices": ["a yellow star", "a yellow circle"]}
    chosen = httpx.post(f"{demo.url}/choose", json=fields, timeout=60).json()["choices"]
    assert [each.score for each in ranked] == [each["probability"] for each in chosen]
    assert {each.label for each in ranked} == {"star", "circle"}


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's own
def test_the_asynchronous_client_is_answered_too(demo: Server) -> None:
    async def caption() -> str:
        async with AsyncInferenceClient(model=f"{demo.url}/hf/image-to-text", token="any") as client:
            return str((await client.image_to_text(IMAGE)).generated_text)

    assert asyncio.run(caption()) == CAPTION


@pytest.mark.parametrize(
    ("task", "body", "status", "message"),
    [
        ("image-to-text", {"content": b"no picture"}, 415, "The file is not a picture that can be read"),
        ("image-to-text", {"json": {"parameters": {}}}, 400, "inputs is missing"),
        (
            "image-to-text",
            {"json": {"inputs": INLINE, "parameters": {"num_beams": 17}}},
            400,
            "num_beams: Input should",
        ),
        ("image-to-text", {"files": {"img": IMAGE}}, 415, "No form is read here"),
        ("visual-question-answering", {"content": IMAGE}, 400, "question is missing"),
        ("zero-shot-image-classification", {"json": {"inputs": INLINE}}, 400, "candidate_labels: Field required"),
        ("translation", {"json": {"inputs": INLINE}}, 404, "There is nothing at /hf/translation"),
    ],
)
def test_an_error_is_a_text(post: Post, task: str, body: dict[str, Any], status: int, message: str) -> None:
    reply = post(task, **body)
    assert reply.status_code == status
    assert message in reply.json()["error"]


def test_the_client_shows_the_one_line_of_an_error(client: Client) -> None:
    with pytest.raises(HfHubHTTPError, match="The file is not a picture that can be read: send JPEG"):
        client("image-to-text").image_to_text(b"no picture")
