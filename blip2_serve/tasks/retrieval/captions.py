"""How well captions match their picture, and captions ranked by it."""

from collections.abc import Sequence
from dataclasses import replace

from blip2_serve.errors import UnknownImage
from blip2_serve.tasks.prepare import Prepared
from blip2_serve.tasks.retrieval.verbs import Match, Retrieval
from blip2_serve.tasks.scored.captions import ScoredCaption


async def match_captions(
    captions: Sequence[ScoredCaption], prepared: Prepared, retrieval: Retrieval, *, by_match: bool
) -> list[ScoredCaption]:
    """Add to each caption how well it matches; where `by_match`, the one that matches best comes first.

    Raises:
        UnknownImage: only the picture's id was sent and the matching model has not seen it; told only where it ranks.
    """
    texts = [caption.text for caption in captions]
    ids = await retrieval.encode_in_turn(texts, prepared.deadline, cut=True)
    try:
        matches = await retrieval.match_prepared(prepared.images["retrieval"], texts, ids, prepared.deadline)
    except UnknownImage:
        if by_match:
            raise
        return list(captions)
    return _with_matches(captions, matches, by_match=by_match)


def _with_matches(
    captions: Sequence[ScoredCaption], matches: Sequence[Match], *, by_match: bool
) -> list[ScoredCaption]:
    """Rank as LAVIS ranks texts for a picture, by the sum of matching logit and cosine."""
    told = [replace(caption, itm=match.itm, itc=match.itc) for caption, match in zip(captions, matches, strict=True)]
    if not by_match:
        return told
    order = sorted(range(len(told)), key=lambda place: -(matches[place].itm_logit + matches[place].itc))
    return [told[place] for place in order]
