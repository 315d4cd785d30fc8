"""Linear layers and norms as plain functions, with weights in the layout that multiplies fastest."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

Linear = Callable[[torch.Tensor], torch.Tensor]


def linear_of(module: Any) -> Linear:
    """Turn a linear layer into a plain function: calling a Module costs as much as a small norm.

    A quantised layer is returned as it is. The module may be unusable afterwards (see `_packed`).
    """
    if is_quantized(module):
        return module  # type: ignore[no-any-return]
    return _packed([module]) or partial(F.linear, weight=module.weight.data, bias=_bias(module))


def fuse(linears: Sequence[Any]) -> Linear:
    """Fuse linear layers with the same input; their outputs stand side by side in its output.

    Their weights become views of its weight, or are lost (see `_packed`), so memory is not taken twice. Quantised
    layers keep their own scales and run in turn.
    """
    if any(map(is_quantized, linears)):
        return lambda hidden: torch.cat([linear(hidden) for linear in linears], dim=-1)
    return _packed(linears) or partial(F.linear, weight=_joined(linears), bias=_joined_bias(linears))


def norm_of(module: Any) -> Linear:
    """Turn a LayerNorm into a plain function, without the Python in `F.layer_norm`, which counts with few rows."""
    shape, eps = module.normalized_shape, module.eps
    weight, bias = (None if part is None else part.data for part in (module.weight, module.bias))
    return lambda hidden: torch.layer_norm(hidden, shape, weight, bias, eps)


def is_quantized(module: Any) -> bool:
    """True if the layer's weights are packed so that only its own `forward` can read them."""
    return not module.weight.is_floating_point()


def packs_bfloat16() -> bool:
    """True if oneDNN multiplies bfloat16 on this CPU: it wants AVX-512 or AVX-NE-CONVERT. Plain torch always does."""
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed(linears: Sequence[Any]) -> Linear | None:
    """Fuse bfloat16 layers on a CPU with their weights in oneDNN's blocks; None elsewhere: other dtypes gain nothing.

    oneDNN would reorder a plain weight at every call, which is a third of a product with few rows. The modules lose
    their weights, so that memory is not taken twice.
    """
    weight = linears[0].weight
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not packs_bfloat16():
        return None
    bias = _joined_bias(linears)
    blocks = torch.ops.mkldnn._reorder_linear_weight(torch.cat([linear.weight.data for linear in linears]), None)
    for linear in linears:
        linear.weight = torch.nn.Parameter(linear.weight.to("meta"), requires_grad=False)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda hidden: multiply(hidden, blocks, bias, "none", [], "")


def _joined(linears: Sequence[Any]) -> torch.Tensor:
    """Stack weights to (sum of outputs, inputs), and make the layers' own weights views of it."""
    weight = torch.cat([linear.weight.data for linear in linears])
    start = 0
    for linear in linears:
        stop = start + len(linear.weight)
        linear.weight.data = weight[start:stop]
        start = stop
    return weight


def _joined_bias(linears: Sequence[Any]) -> torch.Tensor | None:
    return None if linears[0].bias is None else torch.cat([linear.bias.data for linear in linears])


def _bias(module: Any) -> torch.Tensor | None:
    return None if module.bias is None else module.bias.data
