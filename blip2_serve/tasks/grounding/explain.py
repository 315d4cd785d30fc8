"""The support of each word by a picture: its log-probability given the picture minus that given none."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from blip2_serve.clients import current_client
from blip2_serve.engine.messages import ImageInput, KnownImage, Request
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import MAX_NEW_TOKENS, DecodingOptions
from blip2_serve.tasks.batch import a_few_at_once, together
from blip2_serve.tasks.grounding.blank import blank_pictures
from blip2_serve.tasks.grounding.words import SpelledText
from blip2_serve.tasks.prompt import Prompt, PromptEncoder, PromptSpec
from blip2_serve.tasks.runtime import Runtime
from blip2_serve.tasks.scored.choices import in_rounds

# The picture makes a word so much less likely than no picture at all: e times.
UNSUPPORTED_BELOW = -1.0
# A given text has at most so many tokens, and is scored with the picture and three blank ones.
MAX_EXPLAINED_TOKENS = 64
EXPLAIN_WORK = 4 * MAX_EXPLAINED_TOKENS


@dataclass(frozen=True, slots=True)
class WordSupport:
    """A word, and how much likelier the picture makes it: a difference of natural logarithms."""

    word: str
    support: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The words of a text in their order, and those among them that the picture speaks against."""

    words: list[WordSupport]
    unsupported: list[str]


class Explainer:
    """Explains texts as captions of a picture, with the model that writes captions."""

    def __init__(self, loaded: LoadedModel, prompts: PromptEncoder, runtime: Runtime) -> None:
        self._lens = runtime.lenses["caption"]
        self._prompts = prompts
        self._runtime = runtime
        pictures = blank_pictures(loaded.image_size, loaded.image_processor.image_mean)
        self._blanks = [(hashlib.sha256(pixels).digest(), pixels) for pixels in pictures]

    def prompt(self) -> Prompt:
        """The prompt of a caption, with which a picture to be explained is made ready."""
        return self._prompts.prompt(PromptSpec("prefix"), DecodingOptions(max_new_tokens=1))

    async def explain(
        self, image: ImageInput | KnownImage, texts: Sequence[str], deadline: float, max_tokens: int = MAX_NEW_TOKENS
    ) -> list[Explanation]:
        """Explain texts about a picture that is ready for the captioning model; the caller was admitted.

        Raises:
            Blip2Error: a text is too long, or the engine fails.
        """
        prompt_ids, texts_spelled = await self._runtime.preparation.encode(
            partial(self._prompts.captions, texts, max_tokens), deadline
        )
        blanks = [self._lens.image(*each, image.instruction_ids) for each in self._blanks]
        seen, *unseen = await together(
            [self._score(picture, prompt_ids, texts_spelled, deadline) for picture in (image, *blanks)]
        )
        return [_explained(*each) for each in zip(texts_spelled, seen, zip(*unseen, strict=True), strict=True)]

    async def _score(
        self,
        image: ImageInput | KnownImage,
        prompt_ids: tuple[int, ...],
        texts: Sequence[SpelledText],
        deadline: float,
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of each text's tokens."""
        requests = [
            Request(
                next(self._runtime.request_ids),
                image,
                prompt_ids,
                DecodingOptions(max_new_tokens=max(map(len, part)), num_beams=1),
                deadline=deadline,
                continuations=part,
                client=current_client.get(),
            )
            for part in in_rounds([text.ids for text in texts])
        ]
        finished = await a_few_at_once([self._runtime.run(request) for request in requests])
        return [row.logprobs for each in finished for row in each.rows]


def _explained(text: SpelledText, seen: Sequence[float], unseen: Sequence[Sequence[float]]) -> Explanation:
    """Compare the tokens' log-probabilities with those given each blank picture."""
    without = [_log_mean_exp(each) for each in zip(*unseen, strict=True)]
    supports = text.sums([number - other for number, other in zip(seen, without, strict=True)])
    words = [WordSupport(*pair) for pair in zip(text.words, supports, strict=True)]
    return Explanation(words, [each.word for each in words if each.support < UNSUPPORTED_BELOW])


def _log_mean_exp(logprobs: Sequence[float]) -> float:
    """The logarithm of the mean of probabilities."""
    largest = max(logprobs)
    return largest + math.log(math.fsum(math.exp(each - largest) for each in logprobs) / len(logprobs))
