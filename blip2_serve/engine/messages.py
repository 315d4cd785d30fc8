"""The messages that go into the engine and come out of it: ids, bytes and numbers only.

Nothing here refers to torch, to an event loop or to a picture library, so the engine can move into a process
of its own without a change above `Engine.submit`.
"""

from dataclasses import dataclass
from typing import Literal

from blip2_serve.errors import Blip2Error, InvalidField
from blip2_serve.options import DecodingOptions, FinishReason, draws_beams

ReaderName = Literal["caption", "retrieval"]
"""Which model reads a picture: one makes image tokens of it, the other unit vectors."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A picture at the model's own size.

    `pixels` are S * S * 3 bytes, RGB, line by line, already resized to the model's square. `instruction_ids` are the
    prompt in the tokens of a Q-Former that reads it. `key` is a SHA-256 of everything that its reading depends on: the
    uploaded bytes, the instruction and the checkpoint; `states_key` of everything that the tower's states depend on.
    """

    key: bytes
    pixels: bytes
    instruction_ids: tuple[int, ...] = ()
    states_key: bytes = b""
    reader: ReaderName = "caption"


@dataclass(frozen=True, slots=True)
class KnownImage:
    """A picture that was seen before, by its keys alone: UnknownImage where nothing of it is at hand any more."""

    key: bytes
    instruction_ids: tuple[int, ...] = ()
    states_key: bytes = b""
    reader: ReaderName = "caption"


@dataclass(frozen=True, slots=True)
class Request:
    """A text to generate, or `continuations` of the prompt to score, each in its own row.

    `prompt_ids` are the text ids after the image tokens: with BOS for OPT, with `</s>` for T5, never empty.
    `continuations` are ids of texts, end token included where it is to count, none longer than max_new_tokens.
    `stop` are strings that end the text; `top_logprobs` is the number of likeliest tokens to report beside each chosen
    one (neither is offered with beams or continuations); `deadline` is a `time.monotonic()` instant. The text of an
    answer begins with `answer_begins`, which is not generated: an OPT caption's prefix. `client` names whose it is:
    clients share the engine fairly, however many requests each has.

    Raises:
        InvalidField: no backend decodes this combination.
    """

    request_id: int
    image: ImageInput | KnownImage
    prompt_ids: tuple[int, ...]
    options: DecodingOptions
    stop: tuple[str, ...] = ()
    stream: bool = False
    deadline: float | None = None
    top_logprobs: int = 0
    continuations: tuple[tuple[int, ...], ...] = ()
    answer_begins: str = ""
    client: str = ""

    def __post_init__(self) -> None:
        options = self.options
        if draws_beams(options.num_beams, options.do_sample):
            raise InvalidField("do_sample needs num_beams=1: beams are not sampled", about="num_beams")
        if self.uses_beams and (self.stop or self.stream or self.top_logprobs):
            field = "stop" if self.stop else "stream" if self.stream else "top_logprobs"
            raise InvalidField(f"{field} needs num_beams=1: beams are ranked when all are done", about=field)
        if options.num_return_sequences > max(self.num_rows, 1):
            raise InvalidField(
                "num_return_sequences needs do_sample or at least as many num_beams", about="num_return_sequences"
            )
        chosen = self.uses_beams or options.do_sample or self.stop or self.stream or self.top_logprobs
        if self.continuations and chosen:
            raise InvalidField(
                "continuations are scored as they are: without num_beams, do_sample, stop, stream and top_logprobs"
            )
        if not all(0 < len(ids) <= options.max_new_tokens for ids in self.continuations):
            raise InvalidField(f"a continuation has 1 to max_new_tokens, {options.max_new_tokens}, tokens")
        if not self.prompt_ids:
            raise InvalidField("the prompt has no tokens: OPT's begins with BOS, T5's ends with </s>")

    @property
    def uses_beams(self) -> bool:
        return self.options.num_beams > 1

    @property
    def num_rows(self) -> int:
        """Rows that decode side by side: continuations, beams, samples, or the one row of greedy search."""
        if self.continuations:
            return len(self.continuations)
        if self.uses_beams:
            return self.options.num_beams
        return self.options.num_return_sequences if self.options.do_sample else 1


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """A picture, texts, or both for the retrieval heads.

    `texts` are ids, special tokens included, none empty. Where `compares`, the picture is compared with each text;
    `deadline` and `client` are as for a `Request`.
    """

    request_id: int
    image: ImageInput | KnownImage | None = None
    texts: tuple[tuple[int, ...], ...] = ()
    compares: bool = False
    deadline: float | None = None
    client: str = ""

    def __post_init__(self) -> None:
        if self.image is None and (self.compares or not self.texts):
            raise InvalidField("a picture is missing: there is nothing to compare, or nothing at all")


@dataclass(frozen=True, slots=True)
class LikelyToken:
    """A token that could have been chosen, and the log-softmax of its raw logit."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A token of a streaming request; `text` is what can be shown now, never half a character, perhaps nothing.

    The texts of a row join to its `FinishedRow.text`. `likely` are the `top_logprobs` likeliest tokens of its place,
    the likeliest first.
    """

    request_id: int
    row: int
    token_id: int
    logprob: float
    text: str
    likely: tuple[LikelyToken, ...] = ()


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """One finished row.

    `ids` are the new tokens, the end token included. `logprobs` belong to them one by one: log-softmax of the raw
    logits. `score` is their mean; `beam_score` the hypothesis's own score (None without beams). `text` is the whole
    text, `answer_begins` included, cut before the stop string and stripped; None unless the request streams or has
    stop strings. `likely` are, for each of `ids`, the `top_logprobs` likeliest tokens of its place; empty where none
    were asked for.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float
    beam_score: float | None
    finish_reason: FinishReason
    text: str | None = None
    likely: tuple[tuple[LikelyToken, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds that a request waited for its image tokens, then for rows, then decoded."""

    image_s: float
    queue_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer, best row first; given continuations in their own order."""

    request_id: int
    rows: tuple[FinishedRow, ...]
    timings: Timings


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answer to a RetrievalRequest.

    `image_vectors` (query tokens, width) and `text_vectors` (texts, width) are float32 numbers, row by row, in the
    machine's byte order; empty for what was not asked for. `itm_logits` are a picture's logits of "no" and of "yes" for
    each text.
    """

    request_id: int
    image_vectors: bytes = b""
    text_vectors: bytes = b""
    itm_logits: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The request has failed; `error` says whose fault it is."""

    request_id: int
    error: Blip2Error


Event = TokenEvent | Finished | Retrieved | Failed


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot: requests that wait and that run, rows in use and in all, totals since the start."""

    num_waiting: int
    num_running: int
    num_rows: int
    max_rows: int
    num_steps: int
    num_row_steps: int
    num_images_encoded: int
    image_cache_hits: int
    image_cache_misses: int
    image_cache_bytes: int
    vision_cache_bytes: int = 0
