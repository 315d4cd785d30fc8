"""Answers as plain values: one text, or several completions token by token."""

from dataclasses import dataclass, field

from blip2_serve.options import FinishReason


@dataclass(frozen=True, slots=True)
class Answer:
    """One text.

    Attributes:
        text: stripped; never repeats the question.
        image_id: SHA-256 of the picture's bytes in hex, for asking about it again.
        new_tokens: tokens that the model wrote, the end token included.
        dropped_turns: earlier chat turns that did not fit into the context; None for other tasks.
        timings_s: seconds by stage.
        confidence: probability that a caption is right; None for answers, and where nobody has measured.
        guards: the decoding options with which it was made again because it looped or was empty, mostly none.
    """

    text: str
    image_id: str
    new_tokens: int
    finish_reason: FinishReason
    dropped_turns: int | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    guards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How an answer is told.

    Attributes:
        stop: texts that end it.
        top_logprobs: number of likely tokens to report beside each of its tokens.
        guards: if it loops or is empty, it is made again, see `tasks.guards`.
        echoes: a decoder-only model's caption begins with the prefix that it continues.
    """

    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    guards: bool = False
    echoes: bool = True


@dataclass(frozen=True, slots=True)
class Token:
    """A token's text and bytes, and the log-softmax of its raw logit."""

    text: str
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class ChosenToken(Token):
    """A token of an answer, and the likeliest tokens at its place, likeliest first."""

    likely: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionPiece:
    """One token's addition to completion number `row`; `text` may be empty, and an end token has no `token`."""

    row: int
    text: str
    token: ChosenToken | None


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole completion; `text` is stripped, `tokens` leave out the end token, which `logprob` counts."""

    text: str
    tokens: tuple[ChosenToken, ...]
    finish_reason: FinishReason
    logprob: float = 0.0


@dataclass(frozen=True, slots=True)
class CompletedRequest:
    """All completions of a request, best first.

    `prompt_tokens` counts the image tokens, too; `new_tokens` is the sum over all completions, end tokens included.
    `image_id` is the SHA-256 of the picture's bytes in hex. `dropped_turns` is None unless the task is a chat.
    `guards` are the decoding options with which completions were made again, mostly none. `timings_s` are seconds by
    stage.
    """

    completions: tuple[Completion, ...]
    prompt_tokens: int
    new_tokens: int
    image_id: str
    dropped_turns: int | None
    guards: tuple[str, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict, compare=False)
