"""The body of a reranking request: one side texts, the other pictures."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.rerank.request import PicturesForText, RerankRequest, TextsForPicture, sides_of
from blip2_serve.api.rerank.request import read_request as read_body
from blip2_serve.errors import InvalidField

IMAGE = "data:image/png;base64,AAAA"


def read_request(values: dict[str, Any]) -> RerankRequest:
    return read_body(values, Ignored())


def sides(query: Any, documents: list[Any]) -> TextsForPicture | PicturesForText:
    return sides_of(read_request({"query": query, "documents": documents}))


def test_a_text_ranks_pictures() -> None:
    ranked = sides("a red circle", [IMAGE, {"image": "AAAA"}])
    assert isinstance(ranked, PicturesForText)
    assert (ranked.text, len(ranked.images)) == ("a red circle", 2)


def test_a_picture_ranks_texts() -> None:
    ranked = sides({"image": IMAGE}, ["a", {"text": "b"}])
    assert isinstance(ranked, TextsForPicture)
    assert ranked.texts == ["a", "b"]


@pytest.mark.parametrize(("query", "documents"), [("a", ["b"]), (IMAGE, [IMAGE]), ("a", ["b", IMAGE])])
def test_two_sides_of_one_kind_are_refused(query: str, documents: list[str]) -> None:
    with pytest.raises(InvalidField, match="compares pictures with texts"):
        sides(query, documents)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": IMAGE, "documents": []}, "documents"),
        ({"query": IMAGE, "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": IMAGE, "documents": ["a"], "top_n": True}, "top_n"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_request(wrong)
    assert caught.value.about == field


def test_an_empty_text_is_named() -> None:
    with pytest.raises(InvalidField, match="documents: a text is empty"):
        sides(IMAGE, ["a", " "])
    with pytest.raises(InvalidField, match="more than 64 pictures"):
        sides("a", [IMAGE] * 65)


def test_bounds_of_other_models_change_nothing_and_are_named() -> None:
    ignored, body = Ignored(), {"query": "a", "documents": [IMAGE], "max_tokens_per_doc": 5, "vendor": "x"}
    assert read_body(body, ignored) == read_request({"query": "a", "documents": [IMAGE]})
    assert ignored.headers == {"X-Ignored": "max_tokens_per_doc, vendor"}
