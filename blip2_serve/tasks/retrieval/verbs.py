"""The verbs of the retrieval heads: match texts with a picture, and turn pictures and texts into vectors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from blip2_serve.clients import current_client
from blip2_serve.engine.messages import ImageInput, KnownImage, RetrievalRequest
from blip2_serve.errors import Blip2Error, Part, PromptTooLong
from blip2_serve.images import ImageId, ImageSource
from blip2_serve.model.retrieval.load import LoadedRetrieval
from blip2_serve.tasks.batch import MAX_AT_ONCE, a_few_at_once, answer_each, together
from blip2_serve.tasks.grounding.explain import EXPLAIN_WORK, MAX_EXPLAINED_TOKENS, Explainer, Explanation, WordSupport
from blip2_serve.tasks.lens import CAPTION, MATCHING
from blip2_serve.tasks.load.admission import IMAGE_WORK
from blip2_serve.tasks.prompt import Prompt
from blip2_serve.tasks.runtime import Runtime

Vectors = npt.NDArray[np.float32]
"""Unit vectors (n, width)."""
TextIds = tuple[int, ...]

NO_RETRIEVAL = (
    "This server has no model that matches pictures with texts: set BLIP2_RETRIEVAL_MODEL, to"
    " Salesforce/blip2-itm-vit-g for one."
)
# A pair, and a text alone, take about as long as so many tokens of OPT-2.7B.
PAIR_WORK, TEXT_WORK = 8, 2
# Texts of one engine request: clients take turns after so many.
TEXTS_PER_REQUEST = 16


@dataclass(frozen=True, slots=True)
class Match:
    """A text compared with a picture.

    Attributes:
        itm: probability that text and picture match.
        itm_logit: the matching head's logit for "yes", mean over the query tokens.
        itc: largest cosine of the text's unit vector with the picture's, -1 to 1.
        words, unsupported: as in `grounding.explain.Explanation`; None unless asked for.
    """

    text: str
    itm: float
    itm_logit: float
    itc: float
    words: list[WordSupport] | None = None
    unsupported: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """Texts in the order given; `image_id` is the SHA-256 of the picture's bytes in hex."""

    matches: list[Match]
    image_id: str


@dataclass(frozen=True, slots=True)
class ImageVectors:
    """A picture's unit vectors, one for each query token; `image_id` is the SHA-256 of its bytes in hex."""

    vectors: Vectors
    image_id: str


@dataclass(frozen=True, slots=True)
class TextVectors:
    """Unit vectors of texts, in their order, and the tokens that were read."""

    vectors: Vectors
    num_tokens: int


class Retrieval:
    """The verbs on one matching model; every verb raises a Blip2Error for a request that is refused or fails."""

    def __init__(self, loaded: LoadedRetrieval, runtime: Runtime) -> None:
        self.model_name = loaded.name
        self.width = loaded.vector_width
        self._loaded = loaded
        self._runtime = runtime
        self._admission, self._preparation = runtime.admission, runtime.preparation

    async def match(self, image: ImageSource, texts: Sequence[str], explainer: Explainer | None = None) -> Matches:
        """Compare texts with a picture, and tell what `explainer`, if given, says of their words."""
        self._preparation.check_bytes(image)
        each = PAIR_WORK + (EXPLAIN_WORK if explainer else 0)
        work = IMAGE_WORK * (not isinstance(image, ImageId)) + each * len(texts)
        with self._admission.admitted(current_client.get(), work):
            deadline = self._preparation.deadline()
            ids = await self.encode_in_turn(texts, deadline)
            readers, prompt = (MATCHING + CAPTION, explainer.prompt) if explainer else (MATCHING, _no_prompt)
            prepared = await self._preparation.prepare(image, prompt, deadline, readers)
            matches = await self.match_prepared(prepared.images["retrieval"], texts, ids, deadline)
            if explainer:
                told = await explainer.explain(prepared.images["caption"], texts, deadline, MAX_EXPLAINED_TOKENS)
                matches = _explained(matches, told)
            return Matches(matches, prepared.image_id)

    async def match_many(self, images: Sequence[ImageSource], text: str) -> list[Match]:
        """Compare one text with pictures; the first that fails fails all, and its error says which."""
        with self._admission.admitted(current_client.get(), len(images) * (IMAGE_WORK + PAIR_WORK)):
            deadline = self._preparation.deadline()
            ids = await self.encode_in_turn([text], deadline)

            async def match_one(place: int, image: ImageSource) -> Match:
                async with self._runtime.places:
                    try:
                        self._preparation.check_bytes(image)
                        prepared = await self._preparation.prepare(image, _no_prompt, deadline, MATCHING)
                    except Blip2Error as error:
                        error.about = f"documents.{place}"
                        raise
                    return (await self.match_prepared(prepared.images["retrieval"], [text], ids, deadline))[0]

            return await together([match_one(place, image) for place, image in enumerate(images)])

    async def match_prepared(
        self, image: ImageInput | KnownImage, texts: Sequence[str], ids: Sequence[TextIds], deadline: float
    ) -> list[Match]:
        """Compare texts, with their ids, with a picture that is ready for this model; the caller was admitted."""
        requests = [
            RetrievalRequest(next(self._runtime.request_ids), image, part, True, deadline, current_client.get())
            for part in _in_rounds(ids)
        ]
        answers = await a_few_at_once([self._runtime.retrieve(request) for request in requests])
        vectors = self._vectors(answers[0].image_vectors)
        cosines = [(vectors @ self._vectors(each.text_vectors).T).max(axis=0) for each in answers]
        logits = [pair for each in answers for pair in each.itm_logits]
        return [_match(*each) for each in zip(texts, logits, np.concatenate(cosines).tolist(), strict=True)]

    async def embed_texts(self, texts: Sequence[str]) -> TextVectors:
        """Turn texts into vectors."""
        with self._admission.admitted(current_client.get(), TEXT_WORK * len(texts)):
            deadline = self._preparation.deadline()
            ids = await self.encode_in_turn(texts, deadline)
            requests = [
                RetrievalRequest(next(self._runtime.request_ids), None, part, False, deadline, current_client.get())
                for part in _in_rounds(ids)
            ]
            answers = await a_few_at_once([self._runtime.retrieve(request) for request in requests])
        vectors = np.concatenate([self._vectors(each.text_vectors) for each in answers])
        return TextVectors(vectors, sum(map(len, ids)))

    async def embed_images(self, images: Sequence[ImageSource | Blip2Error]) -> list[ImageVectors | Blip2Error]:
        """Turn pictures into vectors; a picture that fails gives its error instead."""
        deadline = self._preparation.deadline()

        async def embed_one(image: ImageSource | Blip2Error) -> ImageVectors:
            if isinstance(image, Blip2Error):
                raise image
            self._preparation.check_bytes(image)
            return await self._embed_image(image, deadline)

        work = len(images) * IMAGE_WORK
        with self._admission.admitted(current_client.get(), work, min(len(images), MAX_AT_ONCE)):
            return await answer_each(images, embed_one, self._runtime.places)

    def encode(self, texts: Sequence[str], *, cut: bool = False) -> list[TextIds]:
        """Encode texts, special tokens included; takes time. Where they are `cut`, no text is too long.

        Raises:
            PromptTooLong: a text has more tokens than the model has positions.
        """
        most = self._loaded.max_text_tokens
        encoded = [self._loaded.encode_text(text) for text in texts]
        for place, ids in enumerate(encoded):
            if len(ids) > most and not cut:
                raise PromptTooLong(
                    f"Text {place} takes {len(ids)} tokens and the model reads {most}: shorten it.", about=Part.TEXTS
                )
        return [ids[:most] for ids in encoded]

    async def encode_in_turn(self, texts: Sequence[str], deadline: float, *, cut: bool = False) -> list[TextIds]:
        """Encode texts off the event loop, in turn with others' work."""
        return await self._preparation.encode(partial(self.encode, texts, cut=cut), deadline)

    async def _embed_image(self, image: ImageSource, deadline: float) -> ImageVectors:
        prepared = await self._preparation.prepare(image, _no_prompt, deadline, MATCHING)
        seen = prepared.images["retrieval"]
        request = RetrievalRequest(
            next(self._runtime.request_ids), seen, deadline=deadline, client=current_client.get()
        )
        return ImageVectors(self._vectors((await self._runtime.retrieve(request)).image_vectors), prepared.image_id)

    def _vectors(self, data: bytes) -> Vectors:
        return np.frombuffer(data, dtype=np.float32).reshape(-1, self.width)


def mean_vector(vectors: Vectors) -> Vectors:
    """The unit vector (1, width) in the direction of the mean of unit vectors (n, width)."""
    mean = vectors.mean(axis=0, keepdims=True)
    unit: Vectors = mean / np.linalg.norm(mean)
    return unit


def _match(text: str, logits: tuple[float, float], cosine: float) -> Match:
    no, yes = logits
    return Match(text, 1 / (1 + math.exp(min(no - yes, 700.0))), yes, cosine)


def _explained(matches: Sequence[Match], explanations: Sequence[Explanation]) -> list[Match]:
    pairs = zip(matches, explanations, strict=True)
    return [replace(match, words=told.words, unsupported=told.unsupported) for match, told in pairs]


def _in_rounds(ids: Sequence[TextIds]) -> list[tuple[TextIds, ...]]:
    return [tuple(ids[start : start + TEXTS_PER_REQUEST]) for start in range(0, len(ids), TEXTS_PER_REQUEST)]


def _no_prompt() -> Prompt:
    return Prompt(())
