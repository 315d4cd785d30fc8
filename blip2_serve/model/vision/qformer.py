"""The Q-Former, written out on the weights of transformers' module (5.24, models/blip_2/modeling_blip_2.py).

The same sums in the same order of casts, without what a module costs per call.
"""

from collections.abc import Sequence
from typing import Any

import torch

from blip2_serve.model.linear import Linear, fuse, linear_of, norm_of
from blip2_serve.model.vision.tower import attend


class QFormer:
    """A `Blip2QFormerModel` as generation uses it: the query tokens ask, patches are seen, no text."""

    def __init__(self, qformer: Any) -> None:
        self._dtype: torch.dtype = qformer.layernorm.weight.dtype
        self._norm = norm_of(qformer.layernorm)
        self._layers = [QFormerLayer(layer) for layer in qformer.encoder.layer]

    def __call__(
        self, queries: torch.Tensor, seen: torch.Tensor, instructions: Sequence[Sequence[int]] = ()
    ) -> torch.Tensor:
        """queries (n, query tokens, width), seen (n, patches, vision width); returns the queries' answers, as wide.

        `instructions` are not read.
        """
        hidden, seen = self._norm(queries.to(self._dtype)), seen.to(self._dtype)
        for layer in self._layers:
            hidden = layer.feed_forward(layer.look(layer.attend(hidden), seen))
        return hidden


class QFormerLayer:
    """Self-attention, in some layers a look at the patches, feed-forward; norms come last."""

    def __init__(self, layer: Any) -> None:
        own = layer.attention.attention
        self._num_heads: int = own.num_attention_heads
        self._own_inputs = fuse([own.query, own.key, own.value])
        self._own_output, self._own_norm = _output_of(layer.attention.output)
        self._looks: bool = layer.has_cross_attention
        if self._looks:
            cross = layer.crossattention.attention
            self._cross_query = linear_of(cross.query)
            self._cross_inputs = fuse([cross.key, cross.value])
            self._cross_output, self._cross_norm = _output_of(layer.crossattention.output)
        self.feed_forward = FeedForward(layer.intermediate_query, layer.output_query)

    def attend(self, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """hidden (n, tokens, width), mask (n, 1, 1, tokens) bool; every token attends to all that the mask shows."""
        query, keys, values = self._own_inputs(hidden).chunk(3, dim=-1)
        mixed = attend(query, keys, values, self._num_heads, mask)
        return self._own_norm(self._own_output(mixed) + hidden)

    def look(self, hidden: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """hidden (n, query tokens, width) looks at seen (n, patches, vision width), where the layer does."""
        if not self._looks:
            return hidden
        keys, values = self._cross_inputs(seen).chunk(2, dim=-1)
        mixed = attend(self._cross_query(hidden), keys, values, self._num_heads)
        return self._cross_norm(self._cross_output(mixed) + hidden)


class FeedForward:
    """Two linear layers with an activation between, and the norm behind them."""

    def __init__(self, intermediate: Any, output: Any) -> None:
        self._up = linear_of(intermediate.dense)
        self._activation = intermediate.intermediate_act_fn
        self._down, self._norm = _output_of(output)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (n, tokens, width)."""
        return self._norm(self._down(self._activation(self._up(hidden))) + hidden)


def _output_of(module: Any) -> tuple[Linear, Linear]:
    return linear_of(module.dense), norm_of(module.LayerNorm)
