"""The Q-Former, written out on the weights of transformers' module (5.24, models/blip_2/modeling_blip_2.py).

It computes the same sums with casts in the same order, without the modules' overhead per call.
"""

from collections.abc import Sequence
from typing import Any

import torch

from blip2_serve.model.linear import Linear, fuse, linear_of, norm_of
from blip2_serve.model.vision.tower import attend


class QFormer:
    """Runs a `Blip2QFormerModel` as generation does: queries attend to the picture's patches, and to no text."""

    def __init__(self, qformer: Any) -> None:
        self._dtype: torch.dtype = qformer.layernorm.weight.dtype
        self._norm = norm_of(qformer.layernorm)
        self._layers = [QFormerLayer(layer) for layer in qformer.encoder.layer]

    def __call__(
        self, queries: torch.Tensor, seen: torch.Tensor, instructions: Sequence[Sequence[int]] = ()
    ) -> torch.Tensor:
        """Let the queries read n pictures; `instructions` are ignored.

        queries (n, query tokens, width), seen (n, patches, vision width), floats of any dtype. Returns (n, query
        tokens, width) in the weights' dtype.
        """
        hidden, seen = self._norm(queries.to(self._dtype)), seen.to(self._dtype)
        for layer in self._layers:
            hidden = layer.feed_forward(layer.look(layer.attend(hidden), seen))
        return hidden


class QFormerLayer:
    """Self-attention, in some layers cross-attention to the patches, and feed-forward, each followed by its norm."""

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
        """Let each token of hidden (n, tokens, width) attend to those where mask (n, 1, 1, tokens) bool is True."""
        query, keys, values = self._own_inputs(hidden).chunk(3, dim=-1)
        mixed = attend(query, keys, values, self._num_heads, mask)
        return self._own_norm(self._own_output(mixed) + hidden)

    def look(self, hidden: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Let hidden (n, query tokens, width) attend to seen (n, patches, vision width), in layers that do."""
        return self.look_at(hidden, self.keys_and_values(seen)) if self._looks else hidden

    def keys_and_values(self, seen: torch.Tensor) -> torch.Tensor | None:
        """Read seen (n, patches, vision width) for `look_at`: (n, patches, 2 * width); None where nobody looks."""
        return self._cross_inputs(seen) if self._looks else None

    def look_at(self, hidden: torch.Tensor, keys_and_values: torch.Tensor | None) -> torch.Tensor:
        """Let hidden (n, query tokens, width) attend to the n pictures of `keys_and_values`."""
        if keys_and_values is None:
            return hidden
        keys, values = keys_and_values.chunk(2, dim=-1)
        mixed = attend(self._cross_query(hidden), keys, values, self._num_heads)
        return self._cross_norm(self._cross_output(mixed) + hidden)


class FeedForward:
    """Two linear layers with an activation between them, and a norm after them."""

    def __init__(self, intermediate: Any, output: Any) -> None:
        self._up = linear_of(intermediate.dense)
        self._activation = intermediate.intermediate_act_fn
        self._down, self._norm = _output_of(output)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (n, tokens, width); returns the same shape."""
        return self._norm(self._down(self._activation(self._up(hidden))) + hidden)


def _output_of(module: Any) -> tuple[Linear, Linear]:
    return linear_of(module.dense), norm_of(module.LayerNorm)
