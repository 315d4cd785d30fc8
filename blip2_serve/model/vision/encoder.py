"""Pixels to image tokens: ViT, Q-Former and the projection into the language model's width."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from blip2_serve.model.linear import linear_of, norm_of
from blip2_serve.model.vision.instructed_qformer import InstructedQFormer
from blip2_serve.model.vision.qformer import QFormer
from blip2_serve.model.vision.tower import VisionTower

# Keyed by `reads_instruction`.
_QFORMERS: dict[bool, type[QFormer] | type[InstructedQFormer]] = {False: QFormer, True: InstructedQFormer}


class ImageTower:
    """Pixels, already resized to the model's square, to the ViT's states before its last norm.

    Rescaling and normalising are table look-ups: `image_processor` (BlipImageProcessorPil) converts each of the 256
    levels of each channel once, so the result is bit-equal to its own.
    """

    def __init__(self, vision_model: Any, image_processor: Any) -> None:
        self._size: int = vision_model.config.image_size
        device = vision_model.embeddings.class_embedding.device
        self._table = _levels(image_processor).flatten().to(device)
        self._first_level = torch.tensor([[0], [256], [512]], dtype=torch.int32, device=device)
        self._run: Callable[..., torch.Tensor] = VisionTower(vision_model).__call__
        self._is_packed = any(weight.is_meta for weight in vision_model.parameters())

    @property
    def num_bytes(self) -> int:
        """Bytes of one picture."""
        return self._size * self._size * 3

    @torch.inference_mode()
    def __call__(self, images: Sequence[bytes]) -> torch.Tensor:
        """images: S * S * 3 bytes RGB each; returns (images, 1 + patches, vision width).

        Raises:
            ValueError: an image has another size.
        """
        return self._run(self.normalise(images))

    def trace(self) -> None:
        """Record the tower once, see `traced`; packed weights (model/linear.py) cannot be recorded."""
        if not self._is_packed and not isinstance(self._run, torch.jit.ScriptFunction):
            pixel_values = torch.zeros(2, 3, self._size, self._size, device=self._table.device)
            self._run = traced(self._run, pixel_values)

    def normalise(self, images: Sequence[bytes]) -> torch.Tensor:
        """Return (images, 3, S, S) float32, bit-equal to the image processor's.

        Raises:
            ValueError: an image has another size.
        """
        side = self._size
        for pixels in images:
            if len(pixels) != self.num_bytes:
                raise ValueError(f"{len(pixels)} bytes are not a {side} x {side} RGB picture")
        levels = torch.frombuffer(bytearray(b"".join(images)), dtype=torch.uint8).to(self._table.device)
        by_channel = levels.view(len(images), -1, 3).mT.int() + self._first_level
        return self._table[by_channel].view(len(images), 3, side, side)


class ImageEncoder:
    """The vision half of a `Blip2ForConditionalGeneration`: a picture is seen by the tower, then read."""

    def __init__(self, model: Any, image_processor: Any, *, reads_instruction: bool = False) -> None:
        self._dtype = model.get_input_embeddings().weight.dtype
        self.tower = ImageTower(model.vision_model, image_processor)
        self._norm = norm_of(model.vision_model.post_layernorm)
        self._qformer = _QFORMERS[reads_instruction](model.qformer)
        self._reads_instruction = reads_instruction
        self._queries = model.query_tokens.data
        self._project = linear_of(model.language_projection)
        self._run: Callable[..., torch.Tensor] = self._answer
        self._is_packed = any(weight.is_meta for weight in model.vision_model.parameters())

    @torch.inference_mode()
    def __call__(self, images: Sequence[bytes], instructions: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """See and read images of S * S * 3 bytes; returns (images, query tokens, text width) in the compute dtype.

        Raises:
            ValueError: an image has another size.
        """
        return self.read(self.see(images), instructions)

    @torch.inference_mode()
    def see(self, images: Sequence[bytes]) -> torch.Tensor:
        """See images of S * S * 3 bytes RGB; returns (images, 1 + patches, vision width), see `ImageTower`."""
        return self.tower(images)

    @torch.inference_mode()
    def read(self, states: torch.Tensor, instructions: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """Read what was seen; returns (images, query tokens, text width) in the compute dtype.

        `instructions` are the prompts' ids, one sequence per image, for a Q-Former that reads them.
        """
        return self._run(states, instructions) if self._reads_instruction else self._run(states)

    def trace(self) -> None:
        """Record the encoder, see `traced`; neither packed weights nor prompts of varying lengths can be recorded."""
        if self._is_packed or self._reads_instruction:
            return
        self.tower.trace()
        with torch.inference_mode():
            states = self.see([bytes(self.tower.num_bytes)] * 2)
        self._run = traced(self._answer, states)

    def _answer(self, states: torch.Tensor, instructions: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """states (n, 1 + patches, width); casts as `Blip2ForConditionalGeneration.generate` does, in its order."""
        seen = self._norm(states)
        answers = self._qformer(self._queries.expand(seen.shape[0], -1, -1), seen, instructions)
        return self._project(answers.to(seen.dtype)).to(self._dtype)


def traced(run: Callable[..., torch.Tensor], example: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Record a function of one tensor, so that it runs as a single call that does not need the interpreter's lock.

    A thread that encodes beside one that decodes would otherwise ask for the lock at each of some hundred operations.
    The same kernels run in the same order, so not a bit changes. torch.jit is deprecated in favour of torch.compile,
    which needs a C++ compiler at run time.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        recorded: Callable[..., torch.Tensor] = torch.jit.trace(run, example, check_trace=False)  # type: ignore[no-untyped-call]
    return recorded


def _levels(image_processor: Any) -> torch.Tensor:
    """Tabulate the processor's value for every level of red, green and blue: (3, 256) float32."""
    picture = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    values = image_processor(picture, do_resize=False, return_tensors="pt")["pixel_values"]
    table: torch.Tensor = values[0].reshape(3, 256)
    return table.contiguous()
