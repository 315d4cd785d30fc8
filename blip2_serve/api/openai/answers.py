"""Common parts of the answers at /v1: usage, tokens with their log-probabilities, models."""

import json
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, Token


class Whole(BaseModel):
    """Base of complete answers, whose schema requires every field; a chunk leaves out the fields that say nothing."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Usage(BaseModel):
    """Tokens read, the picture's rows among them, and tokens written, end tokens among them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, done: CompletedRequest) -> Self:
        """Count the tokens of a request."""
        total = done.prompt_tokens + done.new_tokens
        return cls(prompt_tokens=done.prompt_tokens, completion_tokens=done.new_tokens, total_tokens=total)


class TokenLogprob(BaseModel):
    """A token, its UTF-8 bytes (those of a part of a character are no text) and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]

    @classmethod
    def of_token(cls, token: Token) -> "TokenLogprob":
        """Convert one token."""
        return TokenLogprob(token=token.text, logprob=token.logprob, bytes=list(token.data))


class ChosenLogprob(TokenLogprob):
    """A token of the answer with the likeliest ones at its place."""

    top_logprobs: list[TokenLogprob]

    @classmethod
    def of(cls, token: ChosenToken) -> Self:
        """Convert one token and its alternatives."""
        likely = [TokenLogprob.of_token(each) for each in token.likely]
        return cls(token=token.text, logprob=token.logprob, bytes=list(token.data), top_logprobs=likely)


class Model(Whole):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["blip2-serve"] = "blip2-serve"


class ModelList(Whole):
    """All of them: the one."""

    object: Literal["list"] = "list"
    data: list[Model]


def now() -> int:
    """Return the Unix time in whole seconds."""
    return int(time.time())


def tokens_json(tokens: Iterable[ChosenToken]) -> str:
    """Render a list of what `ChosenLogprob` describes; what is said of a token is remembered.

    Through pydantic and json, 20 log-probabilities a token cost half a millisecond: with 50 streams, more than the
    model.
    """
    return f"[{','.join(map(_chosen_json, tokens))}]"


def _chosen_json(token: ChosenToken) -> str:
    likely = ",".join([f"{{{_token_json(each.text, each.data)}{each.logprob!r}}}" for each in token.likely])
    return f'{{{_token_json(token.text, token.data)}{token.logprob!r},"top_logprobs":[{likely}]}}'


@lru_cache(maxsize=65_536)
def _token_json(text: str, data: bytes) -> str:
    return f'"token":{json.dumps(text)},"bytes":{json.dumps(list(data))},"logprob":'
