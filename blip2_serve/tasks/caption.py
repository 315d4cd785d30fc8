"""Several scored captions of one picture; a caption that loops or is empty is made again."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blip2_serve.engine.messages import FinishedRow
from blip2_serve.options import DecodingOptions, FinishReason
from blip2_serve.tasks.grounding.explain import WordSupport

NGRAM_SIZE = 3
MAX_REPEATS = 3


@dataclass(frozen=True, slots=True)
class ScoredCaption:
    """A caption.

    Attributes:
        score: mean log-probability of its new tokens, end token counted, from the raw logits.
        probability: exp(score), the probability of a token of it on (geometric) average.
        num_tokens: tokens that the model wrote, the end token counted.
        guards: the decoding options that were set to make it again because it looped or was empty, mostly none.
        confidence: probability that it is right; None where nobody has measured.
        itm, itc: as in `retrieval.verbs.Match`; None without a matching model.
        words, unsupported: as in `grounding.explain.Explanation`; None unless asked for.
    """

    text: str
    score: float
    probability: float
    num_tokens: int
    finish_reason: FinishReason
    guards: tuple[str, ...] = ()
    confidence: float | None = None
    itm: float | None = None
    itc: float | None = None
    words: list[WordSupport] | None = None
    unsupported: list[str] | None = None


@dataclass(frozen=True, slots=True)
class RankedCaptions:
    """Captions of one picture, best first; `image_id` is the SHA-256 of its bytes in hex."""

    captions: list[ScoredCaption]
    image_id: str


Generate = Callable[[DecodingOptions], Awaitable[Sequence[FinishedRow]]]
Read = Callable[[FinishedRow], str]
Trust = Callable[[FinishedRow], float | None]


def several(options: DecodingOptions, num_captions: int) -> DecodingOptions:
    """Ask for `num_captions` at once: as many samples, or the best of at least as many beams."""
    if not options.do_sample:
        options = replace(options, num_beams=max(options.num_beams, num_captions))
    return replace(options, num_return_sequences=num_captions)


def unmeasured(row: FinishedRow) -> None:
    """Trust nothing: nobody has measured captions of this kind."""
    return


async def score_captions(
    generate: Generate, read: Read, options: DecodingOptions, trust: Trust = unmeasured
) -> list[ScoredCaption]:
    """Make captions with `generate`, best score first, equal texts once.

    `read` turns them into text, `trust` gives their confidence.

    If any caption loops or is empty, generate once more with options that forbid it; new texts from that second run
    replace the faulty captions.
    """
    first = await generate(options)
    guards = [_guards(completion, read, options) for completion in first]
    captions = [
        _scored(completion, read, trust) for completion, needed in zip(first, guards, strict=True) if not needed
    ]
    num_faulty = len(first) - len(captions)
    if num_faulty:
        needed: dict[str, Any] = {name: value for each in guards for name, value in each.items()}
        again = await generate(replace(options, **needed))
        made = (_scored(completion, read, trust, tuple(sorted(needed))) for completion in again)
        captions += _new(made, captions)[:num_faulty]
    return _best_first(captions)


def loops(ids: Sequence[int]) -> bool:
    """True if any three consecutive tokens occur at least three times."""
    counts = Counter(zip(ids, ids[1:], ids[2:], strict=False))
    return max(counts.values(), default=0) >= MAX_REPEATS


def _guards(completion: FinishedRow, read: Read, options: DecodingOptions) -> dict[str, int]:
    """Options that keep the model from making such a caption; none if it is fine."""
    guards: dict[str, int] = {}
    if loops(completion.ids):
        guards["no_repeat_ngram_size"] = NGRAM_SIZE
    if not options.min_new_tokens and not read(completion):
        guards["min_new_tokens"] = 1
    return guards


def _scored(completion: FinishedRow, read: Read, trust: Trust, guards: tuple[str, ...] = ()) -> ScoredCaption:
    return ScoredCaption(
        text=read(completion),
        score=completion.score,
        probability=math.exp(completion.score),
        num_tokens=len(completion.ids),
        finish_reason=completion.finish_reason,
        guards=guards,
        confidence=trust(completion),
    )


def _new(made: Iterable[ScoredCaption], captions: Iterable[ScoredCaption]) -> list[ScoredCaption]:
    """Keep captions whose text is not among `captions`, each text once."""
    known = {caption.text for caption in captions}
    unseen = {caption.text: caption for caption in made if caption.text not in known}
    return list(unseen.values())


def _best_first(captions: Iterable[ScoredCaption]) -> list[ScoredCaption]:
    """Sort by score, then by text; of equal texts keep only the best."""
    ranked = sorted(captions, key=lambda caption: (-caption.score, caption.text))
    best: dict[str, ScoredCaption] = {}
    for caption in ranked:
        best.setdefault(caption.text, caption)
    return list(best.values())
