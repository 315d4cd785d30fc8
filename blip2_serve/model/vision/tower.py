"""The ViT, written out on the weights of transformers' module (5.24, models/blip_2/modeling_blip_2.py).

It computes the same sums with casts in the same order, without the modules' overhead per call, and with packed linear
layers (see linear.py). No dropout, no masks: every patch is seen.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from blip2_serve.model.linear import linear_of, norm_of


class VisionTower:
    """Runs a `Blip2VisionModel` but for its last norm: pixels in, one state per patch out.

    Published checkpoints share one frozen tower and have each their own last norm, so whoever reads the states has it.
    """

    def __init__(self, vision_model: Any) -> None:
        embeddings = vision_model.embeddings
        convolution = embeddings.patch_embedding
        self._patch: int = embeddings.patch_size
        self._weight = convolution.weight.data.flatten(1)
        self._bias = None if convolution.bias is None else convolution.bias.data
        dtype = self._weight.dtype
        positions = embeddings.position_embedding.data.to(dtype)
        self._first = embeddings.class_embedding.data.to(dtype) + positions[:, :1]
        self._positions = positions[:, 1:]
        self._layers = [_VisionLayer(layer) for layer in vision_model.encoder.layers]

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values (n, 3, S, S); returns (n, 1 + patches, width) in the weights' dtype, the class token first."""
        hidden = self._embed(pixel_values.to(self._weight.dtype))
        for layer in self._layers:
            hidden = layer(hidden)
        return hidden

    def _embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed the patches; the convolution's stride is its width, so it is one product with all of them."""
        num_images, channels, side, _ = pixel_values.shape
        grid, patch = side // self._patch, self._patch
        covered = pixel_values[..., : grid * patch, : grid * patch]
        patches = covered.reshape(num_images, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
        seen = F.linear(patches.reshape(num_images, grid * grid, -1), self._weight, self._bias) + self._positions
        return torch.cat([self._first.expand(num_images, -1, -1), seen], dim=1)


class _VisionLayer:
    """Norm, attention, norm, feed-forward."""

    def __init__(self, layer: Any) -> None:
        self._num_heads: int = layer.self_attn.num_heads
        self._inputs = linear_of(layer.self_attn.qkv)
        self._output = linear_of(layer.self_attn.projection)
        self._up, self._down = linear_of(layer.mlp.fc1), linear_of(layer.mlp.fc2)
        self._activation = layer.mlp.activation_fn
        self._attention_norm, self._feed_norm = norm_of(layer.layer_norm1), norm_of(layer.layer_norm2)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (n, tokens, width); returns the same shape."""
        states = self._inputs(self._attention_norm(hidden))
        query, keys, values = states.chunk(3, dim=-1)
        hidden = self._output(attend(query, keys, values, self._num_heads)).add_(hidden)
        return self._down(self._activation(self._up(self._feed_norm(hidden)))).add_(hidden)


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, num_heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Multi-head attention; returns the shape of query.

    query (n, tokens, width), keys and values (n, others, width), mask (n, 1, 1, others) bool, True where visible.
    """
    by_head = _by_head(query, num_heads), _by_head(keys, num_heads), _by_head(values, num_heads)
    mixed = F.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


def _by_head(states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(n, tokens, width) -> (n, heads, tokens, head_dim), a view."""
    return states.view(*states.shape[:2], num_heads, -1).transpose(1, 2)
