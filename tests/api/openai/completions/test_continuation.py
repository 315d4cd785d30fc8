"""A continuation is found in what the engine writes, whole and in pieces, and its tokens have their places in it."""

import pytest

from blip2_serve.api.openai.completions.answers import Offsets
from blip2_serve.api.openai.completions.continuation import Continuation, GrowingContinuation
from blip2_serve.engine.decoding.detokenizer import TextStream
from blip2_serve.families import FLAN_T5, OPT, Family
from blip2_serve.tasks.completion import ChosenToken, Token

WORDS = [" a", " red", "dish", " star", " "]


def pieces(prompt: str, family: Family) -> list[str]:
    """The engine's events for WORDS as the answer to `prompt`, in pieces."""
    stream = TextStream(lambda ids: "".join(WORDS[each] for each in ids), begins=family.echoed_prefix(prompt))
    return [stream.push(place, is_last=place == len(WORDS) - 1) for place in range(len(WORDS))]


CASES = [
    ("a photo of", OPT, False, " a reddish star"),
    ("a photo of", OPT, True, "a photo of a reddish star"),
    ("  a photo of", OPT, True, "  a photo of a reddish star"),
    ("a photo of ", OPT, False, " a reddish star"),
    ("", OPT, False, "a reddish star"),
    ("", OPT, True, "a reddish star"),
    (" ", OPT, False, "a reddish star"),
    ("what?", FLAN_T5, False, "a reddish star"),
    ("what?", FLAN_T5, True, "what? a reddish star"),
]


@pytest.mark.parametrize(("prompt", "family", "echo", "said"), CASES)
def test_a_continuation_is_said_whole_and_in_pieces_alike(prompt: str, family: Family, echo: bool, said: str) -> None:
    continuation = Continuation.of(prompt, family, echo=echo)
    written = pieces(prompt, family)
    growing = GrowingContinuation(continuation)
    assert continuation.whole("".join(written)) == said
    assert continuation.before + "".join(map(growing.cut, written)) == said


def test_nothing_follows_a_prompt_that_ends_in_a_space() -> None:
    assert Continuation.of("a photo ", OPT, echo=False).whole("a photo") == ""


def tokens(*words: str) -> list[ChosenToken]:
    return [ChosenToken(word, word.encode(), -0.5, (Token("!", b"!", -0.25), Token(word, b"", -0.5))) for word in words]


@pytest.mark.parametrize(("prompt", "family", "echo", "said"), CASES)
def test_each_token_stands_at_its_place_in_the_text(prompt: str, family: Family, echo: bool, said: str) -> None:
    continuation = Continuation.of(prompt, family, echo=echo)
    offsets = Offsets(len(continuation.before), is_stripped=continuation.is_stripped)
    told = [offsets.logprobs([token]) for token in tokens(*WORDS[:-1])]
    for each in told:
        (place,), (token,) = each.text_offset, each.tokens
        assert said[place:].startswith(token) or said[place:].startswith(token.lstrip())
    assert told[0].top_logprobs == [{"!": -0.25, " a": -0.5}]
