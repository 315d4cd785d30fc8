"""Answers as plain values: one text, or several completions token by token."""

from dataclasses import dataclass, field

from blip2_serve.options import FinishReason


@dataclass(frozen=True, slots=True)
class Answer:
    """One text.

    Attributes:
        text: stripped; never repeats a question.
        image_id: SHA-256 of the picture's bytes in hex, by which it can be asked about again.
        new_tokens: tokens that the model wrote, the end token counted.
        dropped_turns: earlier turns of a chat that did not fit into the context; None where there can be none.
        timings_s: seconds by stage, for people who look for where the time goes.
    """

    text: str
    image_id: str
    new_tokens: int
    finish_reason: FinishReason
    dropped_turns: int | None = None
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Texts that end an answer, and the number of likely tokens to tell beside each of its tokens."""

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
