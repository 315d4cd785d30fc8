"""Pixels to image tokens: ViT, Q-Former and the projection into the language model's width."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from blip2_serve.model.linear import linear_of
from blip2_serve.model.vision.instructed_qformer import InstructedQFormer
from blip2_serve.model.vision.qformer import QFormer
from blip2_serve.model.vision.tower import VisionTower

# Keyed by `reads_instruction`.
_QFORMERS: dict[bool, type[QFormer] | type[InstructedQFormer]] = {False: QFormer, True: InstructedQFormer}


class ImageEncoder:
    """The vision half of a `Blip2ForConditionalGeneration`, for pictures already resized to its square.

    Rescaling and normalising are table look-ups: `image_processor` (BlipImageProcessorPil) converts each of the 256
    levels of each channel once, so the result is bit-equal to its own.
    """

    def __init__(self, model: Any, image_processor: Any, *, reads_instruction: bool = False) -> None:
        self._size: int = model.config.vision_config.image_size
        self._table = _levels(image_processor).flatten().to(model.device)
        self._first_level = torch.tensor([[0], [256], [512]], dtype=torch.int32, device=model.device)
        self._dtype = model.get_input_embeddings().weight.dtype
        self._tower = VisionTower(model.vision_model)
        self._qformer = _QFORMERS[reads_instruction](model.qformer)
        self._reads_instruction = reads_instruction
        self._queries = model.query_tokens.data
        self._project = linear_of(model.language_projection)
        self._run: Callable[..., torch.Tensor] = self._encode
        self._is_packed = any(weight.is_meta for weight in model.vision_model.parameters())

    @torch.inference_mode()
    def __call__(self, images: Sequence[bytes], instructions: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """images: S * S * 3 bytes RGB each; returns (images, query tokens, text width) in the compute dtype.

        `instructions` are the prompts' ids, one sequence per image, for a Q-Former that reads them.

        Raises:
            ValueError: an image has another size.
        """
        pixel_values = self.normalise(images)
        return self._run(pixel_values, instructions) if self._reads_instruction else self._run(pixel_values)

    def trace(self) -> None:
        """Record the encoder, so that it runs as a single call that does not need the interpreter's lock.

        A thread that encodes beside one that decodes would otherwise ask for the lock at each of some hundred
        operations. The same kernels run in the same order, so not a bit changes. torch.jit is deprecated in favour of
        torch.compile, which needs a C++ compiler at run time. Packed weights (see model/linear.py) cannot be recorded;
        models that have them spend their time in the operations, not between them. Nor can prompts of varying lengths.
        """
        if self._is_packed or self._reads_instruction:
            return
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            pixel_values = torch.zeros(2, 3, self._size, self._size, device=self._table.device)
            self._run = torch.jit.trace(self._encode, pixel_values, check_trace=False)  # type: ignore[no-untyped-call]

    def normalise(self, images: Sequence[bytes]) -> torch.Tensor:
        """Return (images, 3, S, S) float32, bit-equal to the image processor's.

        Raises:
            ValueError: an image has another size.
        """
        side = self._size
        for pixels in images:
            if len(pixels) != side * side * 3:
                raise ValueError(f"{len(pixels)} bytes are not a {side} x {side} RGB picture")
        levels = torch.frombuffer(bytearray(b"".join(images)), dtype=torch.uint8).to(self._table.device)
        by_channel = levels.view(len(images), -1, 3).mT.int() + self._first_level
        return self._table[by_channel].view(len(images), 3, side, side)

    def _encode(self, pixel_values: torch.Tensor, instructions: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """pixel_values (n, 3, S, S) float32; casts as `Blip2ForConditionalGeneration.generate` does, in its order."""
        seen = self._tower(pixel_values)
        answers = self._qformer(self._queries.expand(seen.shape[0], -1, -1), seen, instructions)
        return self._project(answers.to(seen.dtype)).to(self._dtype)


def _levels(image_processor: Any) -> torch.Tensor:
    """Tabulate the processor's value for every level of red, green and blue: (3, 256) float32."""
    picture = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    values = image_processor(picture, do_resize=False, return_tensors="pt")["pixel_values"]
    table: torch.Tensor = values[0].reshape(3, 256)
    return table.contiguous()
