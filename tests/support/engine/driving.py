"""Drives an engine's `step` by hand, without its thread."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

from blip2_serve.engine.backends import Backend, make_backend
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Failed, Finished, Request
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.model.vision.encoder import ImageEncoder
from support.engine import wide_models

# A toy tokenizer: 38 and 39 are the two halves of an umlaut, 40 is a space, the next 26 are letters.
BYTES = {38: b"\xc3", 39: b"\xa4", 40: b" "} | {41 + n: bytes([97 + n]) for n in range(26)}


def decode(ids: list[int]) -> str:
    return b"".join(BYTES.get(token, b"<%d>" % token) for token in ids).decode("utf-8", errors="replace")


@lru_cache
def backend_of(model: Any) -> Backend:
    return make_backend(model, wide_models.family_of(model))


@lru_cache
def encoder_of(model: Any) -> ImageEncoder:
    reads_instruction = wide_models.family_of(model).reads_instruction
    return ImageEncoder(model, wide_models.IMAGE_PROCESSOR, reads_instruction=reads_instruction)


EncodeImages = Callable[[Sequence[bytes], Sequence[tuple[int, ...]]], torch.Tensor]


class PlainReader:
    """A reader that sees nothing: it hands pixels and instructions to a function that makes image tokens of both."""

    def __init__(self, encode: EncodeImages) -> None:
        self._encode = encode

    def see(self, images: Sequence[bytes]) -> torch.Tensor:
        return torch.stack([torch.frombuffer(bytearray(pixels), dtype=torch.uint8) for pixels in images])

    def read(self, states: torch.Tensor, instructions: Sequence[tuple[int, ...]]) -> torch.Tensor:
        return self._encode([pixels.numpy().tobytes() for pixels in states], instructions)


def transformers_encoder(model: Any) -> EncodeImages:
    """Make an encoder of transformers' own modules."""

    @torch.inference_mode()
    def encode(images: Sequence[bytes], instructions: Sequence[tuple[int, ...]]) -> torch.Tensor:
        seen = model.vision_model(encoder_of(model).tower.normalise(images).to(model.dtype)).last_hidden_state
        queries = model.query_tokens.expand(len(seen), -1, -1)
        answers = model.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
        image_tokens: torch.Tensor = model.language_projection(answers)
        return image_tokens

    return encode


def make_engine(model: Any, **settings: Any) -> Engine:
    defaults = {"image_cache": ImageCache(1 << 20), "max_rows": 32}
    encode_images = settings.pop("encode_images", None)
    reader = PlainReader(encode_images) if encode_images else encoder_of(model)
    settings = {"backend": backend_of(model), "readers": {"caption": reader}} | defaults | settings
    return Engine(decode=decode, **settings)


class Driver:
    """Drives an engine, and collects its events."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events: dict[int, list[Event]] = {}

    def send(self, *requests: Request) -> None:
        for request in requests:
            self.events[request.request_id] = []
            self.engine.submit(request, self.events[request.request_id].append)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.engine.step()

    def run(self, max_steps: int = 2000) -> None:
        """Step until nothing is left, then check the books."""
        for _ in range(max_steps):
            if not self.engine.step():
                self.engine._runner.check_books()
                assert self.engine.stats().num_rows == 0
                return
        raise AssertionError("the engine does not come to an end")

    def finished(self, request_id: int) -> Finished:
        last = self.events[request_id][-1]
        assert isinstance(last, Finished), last
        return last

    def failed(self, request_id: int) -> Failed:
        last = self.events[request_id][-1]
        assert isinstance(last, Failed), last
        return last


def answer(model: Any, request: Request, **settings: Any) -> Finished:
    """Return the answer to a request that runs alone."""
    driver = Driver(make_engine(model, **settings))
    driver.send(request)
    driver.run()
    return driver.finished(request.request_id)
