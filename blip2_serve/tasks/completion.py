"""Answers for callers who want more than one text: several completions, token by token, as they grow. Plain values."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from blip2_serve.options import FinishReason


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What a caller wants to have beside the text, and where it ends; `top_logprobs` are told with each token."""

    stop: tuple[str, ...] = ()
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A token as text, as bytes, and the log-softmax of its raw logit."""

    text: str
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class ChosenToken(Token):
    """A token of an answer, and the likeliest ones at its place, the likeliest first."""

    likely: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionPiece:
    """What one token adds to completion number `row`; the text may be empty. An end token adds no `token`."""

    row: int
    text: str
    token: ChosenToken | None


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole completion; `text` is stripped, `tokens` do not count the end token."""

    text: str
    tokens: tuple[ChosenToken, ...]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class CompletedRequest:
    """All completions of a request, best first.

    `prompt_tokens` count the picture's rows; `new_tokens` are those of all completions, end tokens included.
    `image_id` is the SHA-256 of the picture's bytes in hex. `dropped_turns` is None where there can be none.
    """

    completions: tuple[Completion, ...]
    prompt_tokens: int
    new_tokens: int
    image_id: str
    dropped_turns: int | None


@dataclass(frozen=True, slots=True)
class CompletionStream:
    """Completions as they grow: what is known at the start, a `CompletionPiece` for every token, then the whole.

    The texts of a row's pieces join to the text of its completion. Who stops listening closes `pieces`, which takes
    the request out of the engine.
    """

    image_id: str
    dropped_turns: int | None
    pieces: AsyncGenerator[CompletionPiece | CompletedRequest, None]
