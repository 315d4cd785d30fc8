"""The support that a picture gives to the words of captions made of it."""

from collections.abc import Sequence
from dataclasses import replace

from blip2_serve.errors import PromptTooLong
from blip2_serve.tasks.grounding.explain import Explainer
from blip2_serve.tasks.prepare import Prepared
from blip2_serve.tasks.scored.captions import ScoredCaption


async def explain_captions(
    captions: Sequence[ScoredCaption], prepared: Prepared, explainer: Explainer
) -> list[ScoredCaption]:
    """Add to each caption how much likelier the picture makes each of its words; an empty one has none.

    With a prefix a caption may be longer than can be explained: then none is.
    """
    texts = {caption.text: None for caption in captions if caption.text}
    try:
        told = await explainer.explain(prepared.images["caption"], list(texts), prepared.deadline) if texts else []
    except PromptTooLong:
        return list(captions)
    found = dict(zip(texts, told, strict=True))
    return [
        replace(caption, words=found[caption.text].words, unsupported=found[caption.text].unsupported)
        if caption.text
        else replace(caption, words=[], unsupported=[])
        for caption in captions
    ]
