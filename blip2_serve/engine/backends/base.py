"""The protocol through which the engine uses a language model, and the attention that all families share."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from blip2_serve.engine.cache.group import Span, Step
from blip2_serve.engine.cache.kv_cache import CacheGeometry
from blip2_serve.engine.sequence import Prefix


class Backend(Protocol):
    """A BLIP-2 language model that fills prefixes and decodes rows of many requests at different places.

    `max_length` bounds prefix + new tokens; `end_ids` end a text.
    """

    geometry: CacheGeometry
    vocab_size: int
    end_ids: tuple[int, ...]
    max_length: int

    def prefix(self, prompt_ids: tuple[int, ...]) -> Prefix:
        """The prefix of a request with this prompt, its image tokens included."""
        ...

    def prefill(self, span: Span, image_tokens: Sequence[torch.Tensor]) -> None:
        """Compute the prefixes of a span and store them in its blocks.

        image_tokens (query tokens, width) each, in the compute dtype.

        Raises:
            ValueError: image tokens have another shape.
        """
        ...

    def decode(self, steps: Sequence[Step]) -> torch.Tensor:
        """Feed one token to every row of `steps`; returns logits (all rows, vocab) float32."""
        ...


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Let every row of n blocks look at its block, all in the compute dtype.

    query (n * rows, heads * head_dim); keys, values (n, heads, cells, head_dim); mask (n, 1 or heads, 1 or rows,
    cells), additive. Returns (n * rows, heads * head_dim).
    """
    num_blocks, num_heads, _, head_dim = keys.shape
    by_head = query.view(num_blocks, -1, num_heads, head_dim).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(by_head, keys, values, attn_mask=mask.to(query.device), scale=scale)
    return mixed.transpose(1, 2).reshape(query.shape)


def additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return 0 where `visible` (bool) is True, else -inf; made once, lest attention do it in every layer."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def join(parts: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate rows of several groups; a single group is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def stack_images(image_tokens: Sequence[torch.Tensor], shape: tuple[int, int]) -> torch.Tensor:
    """Stack image tokens of `shape`, (query tokens, width), to (n, query tokens, width).

    Raises:
        ValueError: an image's tokens have another shape.
    """
    for each in image_tokens:
        if each.shape != shape:
            raise ValueError(f"image tokens of {tuple(each.shape)} are not {shape}")
    return torch.stack(list(image_tokens))
