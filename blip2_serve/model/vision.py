"""Pixels to image rows: ViT, Q-Former and the projection into the language model's width."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


class ImageEncoder:
    """The vision half of a `Blip2ForConditionalGeneration`, for pictures that are already resized to its square.

    Rescaling and normalising are looked up: `image_processor` (BlipImageProcessorPil) is asked once what it makes of
    each of the 256 levels of each channel, so the result is bit-equal to its own.
    """

    def __init__(self, model: Any, image_processor: Any) -> None:
        self._model = model
        self._size: int = model.config.vision_config.image_size
        self._table = _levels(image_processor).to(model.device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[bytes]) -> torch.Tensor:
        """images: S * S * 3 bytes RGB each; returns (images, query tokens, text width) in the compute dtype.

        Raises ValueError for pixels of another size.
        """
        return self._encode(torch.stack([self._normalise(pixels) for pixels in images]))

    def _normalise(self, pixels: bytes) -> torch.Tensor:
        """(3, S, S) float32."""
        if len(pixels) != self._size * self._size * 3:
            raise ValueError(f"{len(pixels)} bytes are not a {self._size} x {self._size} RGB picture")
        levels = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).to(self._table.device)
        by_channel = levels.view(-1, 3).T.long()
        return self._table.gather(1, by_channel).view(3, self._size, self._size)

    def _encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values (n, 3, S, S) float32. The order of casts is that of `Blip2ForConditionalGeneration.generate`."""
        model = self._model
        seen = model.vision_model(pixel_values).last_hidden_state
        queries = model.query_tokens.expand(len(seen), -1, -1)
        output = model.qformer(
            query_embeds=queries,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
        ).last_hidden_state
        rows: torch.Tensor = model.language_projection(output.to(seen.dtype))
        return rows.to(model.get_input_embeddings().weight.dtype)


def _levels(image_processor: Any) -> torch.Tensor:
    """(3, 256) float32: what the processor makes of every level of red, green and blue."""
    picture = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    values = image_processor(picture, do_resize=False, return_tensors="pt")["pixel_values"]
    table: torch.Tensor = values[0].reshape(3, 256)
    return table.contiguous()
