"""InstructBLIP's Q-Former, written out on transformers' module (5.24, models/instructblip/modeling_instructblip.py).

It reads the prompt together with the picture: its queries and the prompt's tokens attend to each other, only the
queries to the picture, and each kind has its own feed-forward network.
"""

from collections.abc import Sequence
from typing import Any

import torch

from blip2_serve.model.linear import norm_of
from blip2_serve.model.vision.qformer import FeedForward, QFormerLayer
from blip2_serve.model.vision.words import Words


class InstructedQFormer:
    """Runs an `InstructBlipQFormerModel`: queries attend to the prompt and to the picture's patches."""

    def __init__(self, qformer: Any) -> None:
        embeddings = qformer.embeddings
        self._dtype: torch.dtype = embeddings.layernorm.weight.dtype
        self._norm = norm_of(embeddings.layernorm)
        self._words = Words(embeddings)
        self._layers = [ReadingLayer(layer) for layer in qformer.encoder.layer]

    def __call__(
        self, queries: torch.Tensor, seen: torch.Tensor, instructions: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Let the queries read n pictures and the ids of n prompts of any lengths.

        queries (n, query tokens, width), seen (n, patches, vision width), floats of any dtype. Returns (n, query
        tokens, width) in the weights' dtype.
        """
        words, mask = self._words(instructions, queries.shape[1])
        hidden, seen = torch.cat([queries, words], dim=1), seen.to(self._dtype)
        hidden = self._norm(hidden.to(self._dtype))
        for layer in self._layers:
            hidden = layer(hidden, seen, mask, queries.shape[1])
        return hidden[:, : queries.shape[1]]


class ReadingLayer:
    """A Q-Former layer in which a text's tokens take part."""

    def __init__(self, layer: Any) -> None:
        self.layer = QFormerLayer(layer)
        self.feed_forward_text = FeedForward(layer.intermediate, layer.output)

    def __call__(
        self, hidden: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None, num_queries: int
    ) -> torch.Tensor:
        """hidden (n, query tokens + text, width), seen (n, patches, vision width), mask (n, 1, 1, all tokens) bool."""
        return self.look_at(hidden, self.layer.keys_and_values(seen), mask, num_queries)

    def look_at(
        self,
        hidden: torch.Tensor,
        keys_and_values: torch.Tensor | None,
        mask: torch.Tensor | None,
        num_queries: int,
    ) -> torch.Tensor:
        """As a call, with the pictures as `QFormerLayer.keys_and_values` made them."""
        mixed = self.layer.attend(hidden, mask)
        queries = self.layer.feed_forward(self.layer.look_at(mixed[:, :num_queries], keys_and_values))
        return torch.cat([queries, self.feed_forward_text(mixed[:, num_queries:])], dim=1)

    def read(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Let the tokens of n texts, (n, text, width), attend to each other; there are no queries and no pictures."""
        return self.feed_forward_text(self.layer.attend(hidden, mask))
