"""Fields and answers of /embed, and the texts of /match."""

import base64
import json
import time
from typing import Any

import numpy as np
import pytest

from blip2_serve.api.native.embed import EmbedFields, images_body, texts_body
from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, texts_of, validate_fields
from blip2_serve.api.native.match import MatchFields
from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.images import Upload
from blip2_serve.tasks.retrieval.verbs import ImageVectors, TextVectors

VECTORS = np.eye(3, 4, dtype=np.float32)


def fields(**values: object) -> EmbedFields:
    return validate_fields(EmbedFields, values)


@pytest.mark.parametrize(
    "given", [{}, {"img": Upload(b"a"), "texts": ["b"]}, {"img": Upload(b"a"), "img_id": "ab" * 32}]
)
def test_exactly_one_thing_is_embedded(given: dict[str, object]) -> None:
    with pytest.raises(InvalidField, match="send one of img, imgs, img_id and texts"):
        _ = fields(**given).images


def test_texts_may_be_json_or_a_single_text() -> None:
    assert fields(texts='["a", "b"]').texts == ["a", "b"]
    assert fields(texts="a").texts == ["a"]
    assert validate_fields(MatchFields, {"img": Upload(b"a"), "texts": '["a", "b"]'}).texts == ["a", "b"]


@pytest.mark.parametrize(
    "texts", [[], ["a", " "], ["a"] * 257, ["a" * (MAX_TEXT_CHARACTERS + 1)], ["a" * 30_000] * 9, ["\ud800"]]
)
@pytest.mark.parametrize("model", [EmbedFields, MatchFields])
def test_texts_are_bounded(texts: list[str], model: type[EmbedFields] | type[MatchFields]) -> None:
    with pytest.raises(InvalidField) as caught:
        validate_fields(model, {"texts": texts})
    assert caught.value.about == "texts"


def embeddings(body: bytes) -> list[dict[str, Any]]:
    return json.loads(body)["embeddings"]


def test_vectors_are_numbers_or_base64() -> None:
    seen = [ImageVectors(VECTORS, "ab")]
    (plain,) = embeddings(images_body(seen, fields(img=Upload(b"a"))))
    assert plain == {"vectors": VECTORS.tolist(), "shape": [3, 4], "image_id": "ab"}
    (packed,) = embeddings(images_body(seen, fields(img=Upload(b"a"), encoding_format="base64")))
    assert np.array_equal(np.frombuffer(base64.b64decode(packed["vectors"]), "<f4").reshape(3, 4), VECTORS)


def test_pooling_gives_one_unit_vector() -> None:
    (pooled,) = embeddings(images_body([ImageVectors(VECTORS, "ab")], fields(img=Upload(b"a"), pool="mean")))
    assert pooled["shape"] == [1, 4]
    assert np.allclose(pooled["vectors"], [[3**-0.5] * 3 + [0]])


def test_texts_have_a_vector_each_and_a_picture_that_failed_its_error() -> None:
    texts = embeddings(texts_body(TextVectors(VECTORS, 9), fields(texts=["a", "b", "c"])))
    assert [entry["vectors"] for entry in texts] == [[row] for row in VECTORS.tolist()]
    (failed,) = embeddings(images_body([InvalidImage("No.")], fields(img=Upload(b"a"))))
    assert failed["error"]["message"] == "No."


@pytest.mark.parametrize("value", ["[" + "[]," * 1_000_000 + "[]]", "[" * 1_000_000, '["' + "a" * 3_000_000 + '"]'])
def test_a_string_that_is_no_list_of_texts_is_not_parsed(value: str) -> None:
    began = time.thread_time()
    assert texts_of(value) == value
    assert time.thread_time() - began < 0.02


@pytest.mark.parametrize("texts", [["a", "b"], [], ['"quoted"', "\\", "ä, [b]"], ["\n"]])
def test_a_list_of_texts_is_parsed(texts: list[str]) -> None:
    assert texts_of(json.dumps(texts)) == texts
    assert texts_of(f" {json.dumps(texts, indent=1)} ") == texts
