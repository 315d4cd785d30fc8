"""InstructBLIP's Q-Former, written out on transformers' module (5.24, models/instructblip/modeling_instructblip.py).

It reads the prompt together with the picture: its queries and the prompt's tokens attend to each other, only the
queries to the picture, and each kind has its own feed-forward network.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from blip2_serve.model.linear import norm_of
from blip2_serve.model.vision.qformer import FeedForward, QFormerLayer


class InstructedQFormer:
    """Runs an `InstructBlipQFormerModel`: queries attend to the prompt and to the picture's patches."""

    def __init__(self, qformer: Any) -> None:
        embeddings = qformer.embeddings
        self._dtype: torch.dtype = embeddings.layernorm.weight.dtype
        self._norm = norm_of(embeddings.layernorm)
        self._words = embeddings.word_embeddings.weight.data
        self._positions = embeddings.position_embeddings.weight.data
        self._layers = [_Layer(layer) for layer in qformer.encoder.layer]

    def __call__(
        self, queries: torch.Tensor, seen: torch.Tensor, instructions: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Let the queries read n pictures and the ids of n prompts of any lengths.

        queries (n, query tokens, width), seen (n, patches, vision width), floats of any dtype. Returns (n, query
        tokens, width) in the weights' dtype.
        """
        words, mask = self._read(instructions, queries.shape[1])
        hidden, seen = torch.cat([queries, words], dim=1), seen.to(self._dtype)
        hidden = self._norm(hidden.to(self._dtype))
        for layer in self._layers:
            hidden = layer(hidden, seen, mask, queries.shape[1])
        return hidden[:, : queries.shape[1]]

    def _read(
        self, instructions: Sequence[Sequence[int]], num_queries: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embed prompts to (n, longest, width), padded on the right.

        Returns with them a mask (n, 1, 1, queries + longest) bool, or None without padding.
        """
        lengths = torch.tensor([len(ids) for ids in instructions], device=self._words.device)
        longest = max(map(len, instructions))
        ids = [[*each, *[0] * (longest - len(each))] for each in instructions]
        indices = torch.tensor(ids, dtype=torch.int64, device=self._words.device)
        words = F.embedding(indices, self._words) + self._positions[:longest]
        if min(map(len, instructions)) == longest:
            return words, None
        places = torch.arange(num_queries + longest, device=self._words.device)
        return words, (places < num_queries + lengths[:, None])[:, None, None]


class _Layer:
    """A Q-Former layer in which the prompt's tokens take part."""

    def __init__(self, layer: Any) -> None:
        self._layer = QFormerLayer(layer)
        self._feed_forward_text = FeedForward(layer.intermediate, layer.output)

    def __call__(
        self, hidden: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None, num_queries: int
    ) -> torch.Tensor:
        """hidden (n, query tokens + text, width), seen (n, patches, vision width), mask (n, 1, 1, all tokens) bool."""
        mixed = self._layer.attend(hidden, mask)
        queries = self._layer.feed_forward(self._layer.look(mixed[:, :num_queries], seen))
        return torch.cat([queries, self._feed_forward_text(mixed[:, num_queries:])], dim=1)
