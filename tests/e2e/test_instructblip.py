"""InstructBLIP on the real server: every endpoint gives transformers' answer to picture and prompt."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from blip2_serve.families import INSTRUCTBLIP_FLAN_T5 as FAMILY
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from support.pictures import jpeg
from support.serving import serve

IMG = {"img": ("a.jpg", jpeg(), "image/jpeg")}
PICTURE = Image.open(io.BytesIO(jpeg())).convert("RGB")
TURNS = [("what?", "a cat")]
CHAT_PROMPT = FAMILY.chat_prompt(TURNS, "why?")


@pytest.fixture(scope="module")
def http(tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = {"BLIP2_MODEL": str(tiny_checkpoints["instructblip"])}
    with (
        serve(tmp_path_factory.mktemp("instructblip"), settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client


@pytest.fixture
def loaded(tiny_models: dict[str, LoadedModel]) -> LoadedModel:
    return tiny_models["instructblip"]


def expected(loaded: LoadedModel, prompt: str, **options: object) -> str:
    """Return the reference's answer about the picture, decoded with `options`."""
    generated = Reference(loaded).generate(
        PICTURE, loaded.encode_text(prompt), DecodingOptions(**options), loaded.encode_instruction(prompt)
    )
    return loaded.decode_text(generated.ids).strip()


@pytest.mark.parametrize(
    ("path", "fields", "prompt", "defaults"),
    [
        ("/generate", {}, FAMILY.caption_prompt, FAMILY.caption_defaults),
        ("/generate", {"txt": "Describe it."}, "Describe it.", FAMILY.caption_defaults),
        ("/vqa", {"txt": "what is it?"}, FAMILY.question_prompt("what is it?"), FAMILY.vqa_defaults),
        (
            "/chat",
            {"txt": "why?", "context": json.dumps(TURNS)},
            FAMILY.chat_prompt(TURNS, "why?"),
            FAMILY.caption_defaults,
        ),
    ],
    ids=["caption", "instruction", "question", "conversation"],
)
def test_an_answer_is_that_of_transformers(
    http: httpx.Client, loaded: LoadedModel, path: str, fields: dict[str, str], prompt: str, defaults: dict[str, object]
) -> None:
    reply = http.post(path, files=IMG, data={**fields, "max_new_tokens": "12"})
    assert reply.status_code == 200
    assert reply.text == expected(loaded, prompt, **{**defaults, "max_new_tokens": 12})


def test_choices_are_as_likely_as_in_transformers(http: httpx.Client, loaded: LoadedModel) -> None:
    reply = http.post("/choose", files=IMG, data={"txt": "is it a cat?", "choices": ["yes", "no"]})
    prompt = FAMILY.question_prompt("is it a cat?")
    for choice in reply.json()["choices"]:
        ids, instruction_ids = loaded.encode_text(choice["text"]), loaded.encode_instruction(prompt)
        logprobs = Reference(loaded).score(PICTURE, loaded.encode_text(prompt), ids, instruction_ids)
        assert choice["log_likelihood"] == pytest.approx(sum(logprobs), rel=1e-4)


def test_another_question_about_a_picture_is_asked_by_its_id(http: httpx.Client, loaded: LoadedModel) -> None:
    """The image tokens differ by question, although the picture is the same."""
    image_id = http.post("/vqa", files=IMG, data={"txt": "what is it?"}).headers["x-image-id"]
    reply = http.post("/vqa", data={"img_id": image_id, "txt": "where is it?"})
    assert reply.status_code == 200
    assert reply.text == expected(loaded, FAMILY.question_prompt("where is it?"), **FAMILY.vqa_defaults)
    assert reply.text != http.post("/vqa", data={"img_id": image_id, "txt": "what is it?"}).text
