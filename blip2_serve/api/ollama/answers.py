"""Ollama's answers, whole or a line at a time."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, Token

Values = dict[str, Any]


class _Answer(BaseModel):
    """An answer, or a piece of it; all but the first three stand where `done`."""

    model: str = Field(description="the name by which the model was asked for")
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | None = None
    total_duration: int | None = Field(None, description="nanoseconds")
    load_duration: int | None = Field(None, description="nanoseconds; 0, the model is loaded before the first request")
    prompt_eval_count: int | None = Field(None, description="tokens read, those of the picture among them")
    prompt_eval_duration: int | None = Field(None, description="nanoseconds until the picture was read")
    eval_count: int | None = Field(None, description="tokens written, the end token among them")
    eval_duration: int | None = Field(None, description="nanoseconds")
    logprobs: list[dict[str, Any]] | None = Field(None, description="of each token, where asked for")


class GenerateAnswer(_Answer):
    """Answer of /api/generate, or a line of it."""

    response: str


class ChatMessage(BaseModel):
    """The model's message."""

    role: Literal["assistant"]
    content: str


class ChatAnswer(_Answer):
    """Answer of /api/chat, or a line of it."""

    message: ChatMessage


class Writer:
    """Writes the answers to one request: to /api/generate, or to /api/chat."""

    def __init__(self, model: str, *, is_chat: bool, logprobs: bool) -> None:
        self._model = model
        self._is_chat = is_chat
        self._logprobs = logprobs

    def piece(self, text: str, tokens: Iterable[ChosenToken]) -> Values:
        """A piece of a streamed answer."""
        return {**self._said(text), "done": False, **self._told(tokens)}

    def loaded(self, *, unloads: bool) -> Values:
        """The answer to who asks for nothing but the model."""
        return {**self._said(""), "done": True, "done_reason": "unload" if unloads else "load"}

    def end(self, done: CompletedRequest) -> Values:
        """The last line of a streamed answer."""
        return {**self._said(""), **self._counts(done)}

    def whole(self, done: CompletedRequest) -> Values:
        """The whole answer."""
        only = done.completions[0]
        return {**self._said(only.text), **self._counts(done), **self._told(only.tokens)}

    def _said(self, text: str) -> Values:
        said = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"response": text}
        return {"model": self._model, "created_at": timestamp(datetime.now(UTC)), **said}

    def _told(self, tokens: Iterable[ChosenToken]) -> Values:
        return {"logprobs": [_logprob(token) for token in tokens]} if self._logprobs else {}

    def _counts(self, done: CompletedRequest) -> Values:
        seconds = done.timings_s
        return {
            "done": True,
            "done_reason": done.completions[0].finish_reason,
            "total_duration": nanoseconds(sum(seconds.values())),
            "load_duration": 0,
            "prompt_eval_count": done.prompt_tokens,
            "prompt_eval_duration": nanoseconds(seconds.get("prepare", 0) + seconds.get("image", 0)),
            "eval_count": done.new_tokens,
            "eval_duration": nanoseconds(seconds.get("decode", 0)),
        }


def timestamp(moment: datetime) -> str:
    """Write a moment in UTC as Go does, which Ollama is written in."""
    return moment.isoformat().replace("+00:00", "Z")


def nanoseconds(seconds: float) -> int:
    """Convert seconds."""
    return round(seconds * 1e9)


def _logprob(token: ChosenToken) -> Values:
    return {**_token(token), "top_logprobs": [_token(each) for each in token.likely]}


def _token(token: Token) -> Values:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.data)}
