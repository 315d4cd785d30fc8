"""The answers of the /v1 endpoints, as OpenAI's clients read them."""

import time
import uuid
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from blip2_serve.options import FinishReason
from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, Completion, Token


class _Whole(BaseModel):
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


class Logprobs(BaseModel):
    """The tokens of an answer, or of a piece of it."""

    content: list[ChosenLogprob]

    @classmethod
    def of(cls, *tokens: ChosenToken) -> Self:
        """Convert tokens, in order."""
        return cls(content=[ChosenLogprob.of(token) for token in tokens])


class Message(_Whole):
    """What BLIP-2 says; can be sent back as it is."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(_Whole):
    """One answer."""

    index: int
    message: Message
    logprobs: Logprobs | None = None
    finish_reason: FinishReason

    @classmethod
    def of(cls, index: int, completed: Completion, *, logprobs: bool) -> Self:
        """Build answer number `index`."""
        return cls(
            index=index,
            message=Message(content=completed.text),
            logprobs=Logprobs.of(*completed.tokens) if logprobs else None,
            finish_reason=completed.finish_reason,
        )


class Delta(BaseModel):
    """What is new of an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A piece of one answer."""

    index: int
    delta: Delta = Delta()
    logprobs: Logprobs | None = None
    finish_reason: FinishReason | None = None


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def now() -> int:
    """Return the Unix time in whole seconds."""
    return int(time.time())


class ChatCompletion(_Whole):
    """The answers to a request."""

    id: str = Field(default_factory=_new_id)
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(default_factory=now)
    model: str
    choices: list[ChatChoice]
    usage: Usage

    @classmethod
    def of(cls, model: str, done: CompletedRequest, *, logprobs: bool) -> Self:
        """Build the whole response."""
        choices = [ChatChoice.of(index, each, logprobs=logprobs) for index, each in enumerate(done.completions)]
        return cls(model=model, choices=choices, usage=Usage.of(done))


class ChatCompletionChunk(BaseModel):
    """An event of a stream; all of one stream have the same id."""

    id: str = Field(default_factory=_new_id)
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int = Field(default_factory=now)
    model: str
    choices: list[ChunkChoice] = []
    usage: Usage | None = None


class Model(_Whole):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["blip2-serve"] = "blip2-serve"


class ModelList(_Whole):
    """All of them: the one."""

    object: Literal["list"] = "list"
    data: list[Model]
