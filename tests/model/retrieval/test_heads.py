"""The retrieval heads against transformers' own module, alone and in company."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import Blip2ForImageTextRetrieval, Blip2TextModelWithProjection, Blip2VisionModelWithProjection

from blip2_serve.config import Settings
from blip2_serve.model.retrieval.heads import RetrievalHeads
from blip2_serve.model.retrieval.load import load_retrieval_model
from blip2_serve.model.vision.encoder import ImageTower

TEXTS = ("a red circle", "a", "two blue squares on a white background, seen from above")
CLOSE = {"rtol": 0, "atol": 1e-5}
EXACT = {"rtol": 1e-9, "atol": 1e-9}


class Both:
    """Our heads and transformers' module on the same weights."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        loaded = load_retrieval_model(Settings(retrieval_model=str(folder), device="cpu"), folder, None)
        self.tokenizer = loaded.tokenizer
        loaded.model.to(dtype)
        self.heads = RetrievalHeads(loaded.model, ImageTower(loaded.model.vision_model, loaded.image_processor))
        self.model = Blip2ForImageTextRetrieval.from_pretrained(folder).to(dtype).eval()
        self.folder, self.dtype = folder, dtype
        rng = random.Random(0)
        self.images = [rng.randbytes(loaded.image_size**2 * 3) for _ in range(3)]
        self.ids = [tuple(self.tokenizer(text)["input_ids"]) for text in TEXTS]

    def pixel_values(self, image: bytes) -> torch.Tensor:
        return self.heads.see.normalise([image]).to(self.dtype)

    def theirs(self, image: bytes, ids: Sequence[int], *, matching: bool) -> torch.Tensor:
        """transformers' logits for one pair, (2,) or the largest cosine (1,)."""
        config = self.model.config
        input_ids = torch.tensor([[config.image_token_index] * config.num_query_tokens + list(ids)])
        return self.model(
            self.pixel_values(image), input_ids, torch.ones_like(input_ids), use_image_text_matching_head=matching
        ).logits_per_image[0]


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def both(request: pytest.FixtureRequest, tiny_retrieval_checkpoint: Path) -> Both:
    return Both(tiny_retrieval_checkpoint, request.param)


@pytest.fixture
def close(both: Both) -> dict[str, float]:
    return EXACT if both.dtype is torch.float64 else CLOSE


@torch.inference_mode()
def test_pairs_match_as_transformers_says_whatever_else_is_compared(both: Both, close: dict[str, float]) -> None:
    states = both.heads.see(both.images)
    pairs = [(picture, ids) for picture in range(3) for ids in both.ids]
    together = both.heads.match(list(states), pairs)
    for (picture, ids), logits in zip(pairs, together, strict=True):
        theirs = both.theirs(both.images[picture], ids, matching=True)
        torch.testing.assert_close(logits, theirs, **close)
        alone = both.heads.match([states[picture]], [(0, ids)])[0]
        torch.testing.assert_close(alone, theirs, **close)


@torch.inference_mode()
def test_the_largest_cosine_is_that_of_transformers(both: Both, close: dict[str, float]) -> None:
    vectors = both.heads.read(both.heads.see(both.images))
    texts = both.heads.embed_texts(both.ids)
    cosines = (vectors @ texts.T).amax(dim=1)
    for picture, image in enumerate(both.images):
        for text, ids in enumerate(both.ids):
            theirs = both.theirs(image, ids, matching=False)[0]
            torch.testing.assert_close(cosines[picture, text], theirs, **close)


@torch.inference_mode()
def test_a_text_has_the_vector_of_transformers_text_model(both: Both, close: dict[str, float]) -> None:
    model = Blip2TextModelWithProjection.from_pretrained(both.folder).to(both.dtype).eval()
    for ids, vector in zip(both.ids, both.heads.embed_texts(both.ids), strict=True):
        torch.testing.assert_close(vector, model(torch.tensor([ids])).text_embeds[0, 0], **close)


@torch.inference_mode()
def test_a_picture_has_the_vectors_of_transformers_vision_model(both: Both, close: dict[str, float]) -> None:
    model = Blip2VisionModelWithProjection.from_pretrained(both.folder).to(both.dtype).eval()
    together = both.heads.read(both.heads.see(both.images))
    for image, vectors in zip(both.images, together, strict=True):
        torch.testing.assert_close(vectors, model(both.pixel_values(image)).image_embeds[0], **close)


@torch.inference_mode()
def test_traced_heads_give_the_same_bits(tiny_retrieval_checkpoint: Path) -> None:
    plain, traced = (Both(tiny_retrieval_checkpoint, torch.float32) for _ in range(2))
    traced.heads.trace()
    for number in (1, 3, 2):
        images = plain.images[:number]
        assert torch.equal(plain.heads.read(plain.heads.see(images)), traced.heads.read(traced.heads.see(images)))
