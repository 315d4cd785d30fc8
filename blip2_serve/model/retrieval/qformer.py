"""The Q-Former that reads texts, with or without a picture, written out on transformers' module (5.24, models/blip_2).

It computes the same sums with casts in the same order. What a picture gives to cross-attention is computed once,
however many texts are compared with it.
"""

from collections.abc import Sequence
from typing import Any

import torch

from blip2_serve.model.linear import norm_of
from blip2_serve.model.vision.instructed_qformer import ReadingLayer
from blip2_serve.model.vision.words import Words


class RetrievalQFormer:
    """Runs the Q-Former of a `Blip2ForImageTextRetrieval` in its three ways: `look`, `read` and `compare`."""

    def __init__(self, qformer: Any, embeddings: Any) -> None:
        self._dtype: torch.dtype = qformer.layernorm.weight.dtype
        self._norm = norm_of(qformer.layernorm)
        self._words = Words(embeddings)
        self._layers = [ReadingLayer(layer) for layer in qformer.encoder.layer]

    def look(self, queries: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Let the queries read n pictures, and no text.

        queries (n, query tokens, width), seen (n, patches, vision width), floats of any dtype; returns (n, query
        tokens, width) in the weights' dtype.
        """
        hidden, seen = self._start(queries), seen.to(self._dtype)
        for reading in self._layers:
            layer = reading.layer
            hidden = layer.feed_forward(layer.look(layer.attend(hidden), seen))
        return hidden

    def read(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the ids of n texts by themselves; returns their first tokens' states (n, width)."""
        words, mask = self._words(texts, 0)
        hidden = self._start(words)
        for reading in self._layers:
            hidden = reading.read(hidden, mask)
        return hidden[:, 0]

    def compare(
        self, queries: torch.Tensor, seen: torch.Tensor, texts: Sequence[Sequence[int]], pictures: torch.Tensor
    ) -> torch.Tensor:
        """Let the queries read n texts, each together with a picture.

        queries (1, query tokens, width), seen (m, patches, vision width); `pictures` (n,) int64 says which of the m
        goes with each text. Returns (n, query tokens, width) in the weights' dtype.
        """
        words, mask = self._words(texts, queries.shape[1])
        hidden = self._start(torch.cat([queries.to(words.dtype).expand(len(texts), -1, -1), words], dim=1))
        seen = seen.to(self._dtype)
        for layer in self._layers:
            shown = _shown(layer.layer.keys_and_values(seen), pictures)
            hidden = layer.look_at(hidden, shown, mask, queries.shape[1])
        return hidden[:, : queries.shape[1]]

    def _start(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._norm(tokens.to(self._dtype))


def _shown(keys_and_values: torch.Tensor | None, pictures: torch.Tensor) -> torch.Tensor | None:
    """The keys and values of each text's picture, (n, patches, 2 * width); those of a single one are not copied."""
    if keys_and_values is None:
        return None
    if len(keys_and_values) == 1:
        return keys_and_values.expand(len(pictures), -1, -1)
    return keys_and_values[pictures]
