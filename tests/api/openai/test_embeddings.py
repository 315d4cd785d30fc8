"""The body of an embeddings request: as OpenAI's and Jina's clients send it."""

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.embeddings import EmbeddingsRequest
from blip2_serve.api.openai.embeddings import read_request as read_body
from blip2_serve.errors import InvalidField


def read_request(values: dict[str, object]) -> EmbeddingsRequest:
    return read_body(values, Ignored())


@pytest.mark.parametrize("one", ["a red circle", {"image": "AAAA"}])
def test_one_input_is_a_list_of_one(one: object) -> None:
    assert read_request({"input": one}).input == [one]


def test_what_changes_nothing_is_ignored_and_named() -> None:
    ignored = Ignored()
    request = read_body({"input": "a", "user": "me", "input_type": "query", "vendor": 1, "model": "blip2"}, ignored)
    assert (request.model, ignored.headers) == ("blip2", {"X-Ignored": "user, input_type, vendor"})


def test_a_strict_server_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InvalidField, match="vendor"):
        read_body({"input": "a", "user": "me", "vendor": 1}, Ignored(strict=True))


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_switch_that_sends_texts(ids: object) -> None:
    with pytest.raises(InvalidField, match="check_embedding_ctx_length=False"):
        read_request({"input": ids})


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({}, "input"), ({"input": []}, "input"), ({"input": "a", "encoding_format": "int8"}, "encoding_format")],
)
def test_a_wrong_field_is_named(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_request(wrong)
    assert caught.value.about == field
