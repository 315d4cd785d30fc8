"""Text that grows: each piece is final when it is shown, and all of them join to the stripped text."""

import pytest

from blip2_serve.engine.decoding.detokenizer import TextStream
from support.engine.driving import decode


def test_text_streams_hold_back_half_characters_and_beginnings_of_stop_strings() -> None:
    stream = TextStream(decode, ("ab",))
    assert stream.push(43) == "c"
    assert stream.push(38) == ""
    assert stream.push(39) == "ä"
    assert stream.push(41) == ""
    assert stream.push(43) == "ac"
    assert stream.push(41) == ""
    assert stream.push(42) == ""
    assert (stream.stopped, stream.text) == (True, "cäac")


@pytest.mark.parametrize(
    "words", [("do", " n", "'t", "."), ("a", " ", ".", " b"), ("a", " '", " b"), ("no", " n", "o")]
)
def test_a_stream_ends_as_the_text_that_a_cleaning_tokenizer_makes_of_it(words: tuple[str, ...]) -> None:
    def clean(ids: list[int]) -> str:
        text = "".join(words[number] for number in ids)
        return text.replace(" .", ".").replace(" ' ", "'").replace(" n't", "n't")

    stream = TextStream(clean)
    pieces = [stream.push(number, is_last=number == len(words) - 1) for number in range(len(words))]
    assert "".join(pieces) == clean(list(range(len(words))))


def test_what_was_held_back_comes_with_the_last_token() -> None:
    stream = TextStream(decode, ("ab",))
    assert stream.push(41, is_last=True) == "a"
    halved = TextStream(decode)
    assert halved.push(38, is_last=True) == "\ufffd"


def push_all(stream: TextStream, words: list[str]) -> list[str]:
    """Push a text whose token n is the n-th of `words`; returns its pieces."""
    return [stream.push(number, is_last=number == len(words) - 1) for number in range(len(words))]


WHITE_TEXTS = [["a", " b"], [" ", "\n a", " ", "b ", " "], [" ", "  "], ["a ", "", " ", "b"], ["\u3000ä\u3000", "ö"]]
BEGINS = ["", " a photo of ", " "]


@pytest.mark.parametrize("words", WHITE_TEXTS)
@pytest.mark.parametrize("begins", BEGINS)
def test_pieces_join_to_the_stripped_text_with_what_it_begins_with(words: list[str], begins: str) -> None:
    stream = TextStream(lambda ids: "".join(words[number] for number in ids), begins=begins)
    assert "".join(push_all(stream, words)) == stream.text == (begins + "".join(words)).strip()


@pytest.mark.parametrize("words", WHITE_TEXTS)
@pytest.mark.parametrize("begins", BEGINS)
def test_no_piece_ends_in_white_space_or_begins_the_text_with_it(words: list[str], begins: str) -> None:
    stream, shown = TextStream(lambda ids: "".join(words[number] for number in ids), begins=begins), ""
    for piece in push_all(stream, words):
        shown += piece
        assert shown == shown.strip()


def test_what_the_text_begins_with_is_shown_with_the_first_token_and_never_searched() -> None:
    words = ["x", "a", "b", "c"]
    stream = TextStream(lambda ids: "".join(words[number] for number in ids), ("photo", "bc"), begins=" a photo of ")
    assert [stream.push(number) for number in range(4)] == ["a photo of x", "a", "", ""]
    assert (stream.stopped, stream.text) == (True, "a photo of xa")


def test_white_space_before_a_stop_string_is_not_shown() -> None:
    words = ["a", "  ", "ab", "stop"]
    stream = TextStream(lambda ids: "".join(words[number] for number in ids), ("stop",))
    assert [stream.push(number) for number in range(4)] == ["a", "", "  ab", ""]
    cut = TextStream(lambda ids: "".join(["a", "  ", "stop"][number] for number in ids), ("stop",))
    assert [cut.push(number) for number in range(3)] == ["a", "", ""]
    assert cut.text == "a"
