"""Closed questions: rank given answers by their likelihood (LAVIS's `inference_method="rank"`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from blip2_serve.clients import current_client
from blip2_serve.engine.messages import FinishedRow
from blip2_serve.images import ImageId, ImageSource
from blip2_serve.options import MAX_NUM_BEAMS, DecodingOptions
from blip2_serve.tasks.batch import together
from blip2_serve.tasks.load.admission import PREFIX_WORK, work_of
from blip2_serve.tasks.runtime import Runtime
from blip2_serve.tasks.text import Writer

Normalize = Literal["sum", "length"]

_ONE_TOKEN = DecodingOptions(max_new_tokens=1, num_beams=1)
# Rows of one engine request: as many as the widest beam search, so they fit whatever BLIP2_MAX_ROWS says.
CHOICES_PER_REQUEST = MAX_NUM_BEAMS


@dataclass(frozen=True, slots=True)
class Choice:
    """A given answer.

    Attributes:
        probability: among the given choices; they add up to 1.
        log_likelihood: natural logarithm of the model's probability of the text with its end token; with
            normalize="length" the mean over its tokens.
    """

    text: str
    probability: float
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class RankedChoices:
    """The given answers, most probable first; `image_id` is the SHA-256 of the picture's bytes in hex."""

    choices: list[Choice]
    image_id: str


async def choose(
    image: ImageSource,
    question: str | None,
    choices: Sequence[str],
    normalize: Normalize,
    writer: Writer,
    runtime: Runtime,
) -> RankedChoices:
    """Rank `choices` as answers to the question, most probable first.

    Raises:
        Blip2Error: the request was refused, or failed.
    """
    texts = in_order(choices)
    work = work_of(_ONE_TOKEN, has_picture=not isinstance(image, ImageId)) + PREFIX_WORK * len(texts)
    with runtime.admission.admitted(current_client.get(), work):
        prepared = await runtime.preparation.prepare(image, partial(writer.prompts.choices, question, texts))
        requests = []
        for continuations in in_rounds(prepared.prompt.continuations):
            options = DecodingOptions(max_new_tokens=max(map(len, continuations)), num_beams=1)
            requests.append(runtime.request(prepared, options, continuations=continuations))
        finished = await together([runtime.run(request) for request in requests])
    scored = [row for each in finished for row in each.rows]
    return RankedChoices(rank(texts, scored, normalize), prepared.image_id)


def in_order(choices: Sequence[str]) -> list[str]:
    """Sort choices, short ones first: with one order of computation the caller's order changes no number."""
    return sorted(choices, key=lambda text: (len(text), text))


def in_rounds(continuations: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], ...]]:
    """Split continuations into engine requests."""
    starts = range(0, len(continuations), CHOICES_PER_REQUEST)
    return [tuple(continuations[start : start + CHOICES_PER_REQUEST]) for start in starts]


def rank(texts: Sequence[str], scored: Sequence[FinishedRow], normalize: Normalize) -> list[Choice]:
    """Rank the choices, most probable first and ties by text; `scored` match `texts` one to one."""
    numbers = [completion.score if normalize == "length" else sum(completion.logprobs) for completion in scored]
    best = max(numbers)
    weights = [math.exp(number - best) for number in numbers]
    total = math.fsum(weights)
    triples = zip(texts, weights, numbers, strict=True)
    choices = [Choice(text, weight / total, number) for text, weight, number in triples]
    return sorted(choices, key=lambda choice: (-choice.log_likelihood, choice.text))
