"""An engine with a caption model and retrieval heads behind one tower, driven by hand."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blip2_serve.config import Settings
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.messages import ImageInput, Request, RetrievalRequest, Retrieved
from blip2_serve.model.models import LoadedModels, load_models
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver

TEXTS = ("a red circle", "b", "two blue squares on a white background")


class Pair:
    """Both models, and transformers' own answers."""

    def __init__(self, caption: Path | None, retrieval: Path) -> None:
        self.settings = Settings(
            model=str(caption or "none"), retrieval_model=str(retrieval), device="cpu", max_rows=16
        )
        self.loaded: LoadedModels = load_models(self.settings)
        assert self.loaded.retrieval is not None
        self.heads = self.loaded.retrieval
        self.texts = tuple(self.heads.encode_text(text) for text in TEXTS)

    def driver(self, **settings: Any) -> Driver:
        """An engine that encodes between its steps, as on a GPU."""
        changed = self.settings.model_copy(update=settings)
        engine = build_engine(self.loaded.caption, changed, self.loaded.retrieval)
        engine._encoders._num_threads = engine._comparers._num_threads = 0
        return Driver(engine)

    def image(self, seed: int) -> ImageInput:
        pixels = random.Random(seed).randbytes(self.heads.image_size**2 * 3)
        return ImageInput(b"retrieved%d" % seed, pixels, (), b"states%d" % seed, "retrieval")

    def caption_request(self, number: int, seed: int) -> Request:
        image = replace(self.image(seed), key=b"captioned%d" % seed, reader="caption")
        return Request(number, image, (2, 9), DecodingOptions(num_beams=1, max_new_tokens=5))

    def match_request(self, number: int, seed: int, **others: Any) -> RetrievalRequest:
        return RetrievalRequest(number, **{"image": self.image(seed), "texts": self.texts, "compares": True, **others})

    def vectors(self, data: bytes) -> torch.Tensor:
        return torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, self.heads.vector_width).copy())

    @torch.inference_mode()
    def expected_logits(self, seed: int, ids: Sequence[int]) -> torch.Tensor:
        """transformers' two logits for a picture and a text."""
        model, processor = self.heads.model, self.heads.image_processor
        side = self.heads.image_size
        pixels = np.frombuffer(self.image(seed).pixels, np.uint8).reshape(side, side, 3)
        values = processor(pixels, do_resize=False, return_tensors="pt")["pixel_values"]
        input_ids = torch.tensor([[0] * model.config.num_query_tokens + list(ids)])
        answer = model(values, input_ids, torch.ones_like(input_ids), use_image_text_matching_head=True)
        logits: torch.Tensor = answer.logits_per_image[0]
        return logits


def retrieved(driver: Driver, number: int) -> Retrieved:
    last = driver.events[number][-1]
    assert isinstance(last, Retrieved), last
    return last
