"""The answers of chat completions, as OpenAI's clients read them."""

import uuid
from typing import Literal, Self

from pydantic import BaseModel, Field

from blip2_serve.api.openai.answers import ChosenLogprob, Usage, Whole, now
from blip2_serve.options import FinishReason
from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, Completion


class Logprobs(BaseModel):
    """The tokens of an answer, or of a piece of it."""

    content: list[ChosenLogprob]

    @classmethod
    def of(cls, *tokens: ChosenToken) -> Self:
        """Convert tokens, in order."""
        return cls(content=[ChosenLogprob.of(token) for token in tokens])


class Message(Whole):
    """The words of BLIP-2; can be sent back as they are."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Whole):
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
    """The new part of an answer."""

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


class ChatCompletion(Whole):
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
