"""What the engine asks of a language model, and the attention that both families share."""

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from blip2_serve.engine.group import Span, Step
from blip2_serve.engine.kv_cache import CacheGeometry


class Backend(Protocol):
    """A BLIP-2 language model that fills prefixes and decodes rows of many requests at different places.

    `max_length` bounds prefix + new tokens. `image_rows` are (query tokens, width) each, in the compute dtype.
    """

    geometry: CacheGeometry
    vocab_size: int
    end_ids: tuple[int, ...]
    max_length: int

    def num_prefix(self, prompt_ids: tuple[int, ...]) -> int:
        """Cells of the prefix of a request with this prompt."""
        ...

    def seed_id(self, prompt_ids: tuple[int, ...]) -> int:
        """The token that the first decode step feeds."""
        ...

    def seen_ids(self, prompt_ids: tuple[int, ...]) -> tuple[int, ...]:
        """What transformers' logits processors see before the first new token."""
        ...

    def prefill(self, span: Span, image_rows: SequenceOf[torch.Tensor]) -> None:
        """Computes the prefixes of a span and stores them in its blocks."""
        ...

    def decode(self, steps: SequenceOf[Step]) -> torch.Tensor:
        """Feeds one token to every row of `steps`; returns logits (all rows, vocab) float32."""
        ...


Linear = Callable[[torch.Tensor], torch.Tensor]


def fuse(linears: SequenceOf[Any]) -> Linear:
    """One linear layer out of several with the same input; theirs become views of it, so memory is not taken twice.

    Its output is theirs side by side. Quantised layers keep their own scales and stay apart: they run in turn.
    """
    if any(map(is_quantized, linears)):
        return lambda hidden: torch.cat([linear(hidden) for linear in linears], dim=-1)
    weight = torch.cat([linear.weight.data for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias.data for linear in linears])
    start = 0
    for linear in linears:
        stop = start + len(linear.weight)
        linear.weight.data = weight[start:stop]
        if bias is not None:
            linear.bias.data = bias[start:stop]
        start = stop
    return partial(F.linear, weight=weight, bias=bias)


def linear_of(module: Any) -> Linear:
    """A linear layer as a plain function: calling a Module costs as much as a small norm; a quantised one has to be."""
    if is_quantized(module):
        return module  # type: ignore[no-any-return]
    bias = module.bias
    return partial(F.linear, weight=module.weight.data, bias=None if bias is None else bias.data)


def is_quantized(module: Any) -> bool:
    """Whether a linear layer's numbers are packed in a way that only its own `forward` can read."""
    return not module.weight.is_floating_point()


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Every row of n blocks looks at its block.

    query (n * rows, heads * head_dim); keys, values (n, heads, cells, head_dim); mask (n, 1 or heads, 1 or rows,
    cells), bool or additive. Returns (n * rows, heads * head_dim).
    """
    num_blocks, num_heads, _, head_dim = keys.shape
    by_head = query.view(num_blocks, -1, num_heads, head_dim).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(by_head, keys, values, attn_mask=mask.to(query.device), scale=scale)
    return mixed.transpose(1, 2).reshape(query.shape)


def join(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows of several groups as one; a single group is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def stack_images(image_rows: SequenceOf[torch.Tensor], shape: tuple[int, int]) -> torch.Tensor:
    """(n, query tokens, width); raises ValueError unless all rows have the shape (query tokens, width)."""
    for rows in image_rows:
        if rows.shape != shape:
            raise ValueError(f"image rows of {tuple(rows.shape)} are not {shape}")
    return torch.stack(list(image_rows))
