"""The answers of completions, as OpenAI's clients read them."""

import uuid
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from blip2_serve.api.openai.answers import Usage, now
from blip2_serve.options import FinishReason
from blip2_serve.tasks.completion import ChosenToken


class CompletionLogprobs(BaseModel):
    """The tokens of an answer, or of a piece of it: texts, log-probabilities, likeliest tokens, places in the text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One answer, or what is new of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class TextCompletion(BaseModel):
    """The answers to a request; or an event of a stream, which all have the same id."""

    id: str = Field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(default_factory=now)
    model: str
    choices: list[TextChoice] = []
    usage: Usage | None = None


class Offsets:
    """Counts the characters of one answer's tokens, to say where each begins in the text.

    The answer's text begins at `start`; where it is stripped, the space of its first token is none of it.
    """

    def __init__(self, start: int, *, is_stripped: bool) -> None:
        self._next = start
        self._is_stripped = is_stripped

    def logprobs(self, tokens: Iterable[ChosenToken]) -> CompletionLogprobs:
        """Tell of the tokens that come next."""
        told = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        for token in tokens:
            told.tokens.append(token.text)
            told.token_logprobs.append(token.logprob)
            told.top_logprobs.append(_likely(token))
            told.text_offset.append(self._take(token.text))
        return told

    def _take(self, text: str) -> int:
        begins = self._next
        shown = text.lstrip() if self._is_stripped else text
        self._is_stripped = self._is_stripped and not shown
        self._next += len(shown)
        return begins


def _likely(token: ChosenToken) -> dict[str, float]:
    """Tell the likeliest tokens, and the chosen one; of parts of characters, which look alike, the likeliest."""
    likely: dict[str, float] = {}
    for each in token.likely:
        likely.setdefault(each.text, each.logprob)
    return {**likely, token.text: token.logprob}
