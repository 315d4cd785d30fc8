"""Several scored captions of one picture; a caption that loops or is empty is made again."""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blip2_serve.engine.messages import FinishedRow
from blip2_serve.options import DecodingOptions, FinishReason
from blip2_serve.tasks.grounding.explain import WordSupport
from blip2_serve.tasks.guards import guards_against


@dataclass(frozen=True, slots=True)
class ScoredCaption:
    """A caption.

    Attributes:
        score: mean log-probability of its new tokens, end token counted, from the raw logits.
        probability: exp(score), the probability of a token of it on (geometric) average.
        num_tokens: tokens that the model wrote, the end token counted.
        guards: the decoding options that were set to make it again because it looped or was empty, mostly none.
        confidence: probability that it is right; None where nobody has measured.
        continuation: the text without the prefix with which it begins.
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
    continuation: str = ""
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


def several(options: DecodingOptions, num_captions: int) -> DecodingOptions:
    """Ask for `num_captions` at once: as many samples, or the best of at least as many beams."""
    if not options.do_sample:
        options = replace(options, num_beams=max(options.num_beams, num_captions))
    return replace(options, num_return_sequences=num_captions)


def unmeasured(row: FinishedRow) -> None:
    """Trust nothing: nobody has measured captions of this kind."""
    return


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a generated row: `text` with the prefix, `continuation` without it, `confidence` in it."""

    text: Callable[[FinishedRow], str]
    continuation: Callable[[FinishedRow], str]
    confidence: Callable[[FinishedRow], float | None] = unmeasured

    def is_empty(self, row: FinishedRow) -> bool:
        """True if the model wrote nothing."""
        return not self.continuation(row)

    def scored(self, row: FinishedRow, guards: tuple[str, ...] = ()) -> ScoredCaption:
        """Read a row that was made with `guards`."""
        return ScoredCaption(
            text=self.text(row),
            score=row.score,
            probability=math.exp(row.score),
            num_tokens=len(row.ids),
            finish_reason=row.finish_reason,
            guards=guards,
            confidence=self.confidence(row),
            continuation=self.continuation(row),
        )


async def score_captions(
    generate: Generate, reading: Reading, options: DecodingOptions, *, guards: bool = True
) -> list[ScoredCaption]:
    """Make captions with `generate`, best score first, equal texts once.

    Guarded, if any caption loops or is empty, generate once more with options that forbid it; new texts from that
    second run replace the faulty captions.
    """
    first = await generate(options)
    faults = [guards_against(row, reading.is_empty, options) if guards else {} for row in first]
    captions = [reading.scored(row) for row, needed in zip(first, faults, strict=True) if not needed]
    num_faulty = len(first) - len(captions)
    if num_faulty:
        needed: dict[str, Any] = {name: value for each in faults for name, value in each.items()}
        again = await generate(replace(options, **needed))
        made = (reading.scored(row, tuple(sorted(needed))) for row in again)
        captions += _new(made, captions)[:num_faulty]
    return _best_first(captions)


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
