"""Linear layers and norms as plain functions, weights in the layout that multiplies fastest."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

Linear = Callable[[torch.Tensor], torch.Tensor]


def linear_of(module: Any) -> Linear:
    """A linear layer as a plain function: calling a Module costs as much as a small norm; a quantised one has to be.

    The module itself may not be usable any more (see `_packed`).
    """
    if is_quantized(module):
        return module  # type: ignore[no-any-return]
    return _packed([module]) or partial(F.linear, weight=module.weight.data, bias=_bias(module))


def fuse(linears: Sequence[Any]) -> Linear:
    """One linear layer out of several with the same input; theirs become views of it, so memory is not taken twice.

    Its output is theirs side by side. Quantised layers keep their own scales and stay apart: they run in turn.
    """
    if any(map(is_quantized, linears)):
        return lambda hidden: torch.cat([linear(hidden) for linear in linears], dim=-1)
    return _packed(linears) or partial(F.linear, weight=_joined(linears), bias=_joined_bias(linears))


def norm_of(module: Any) -> Linear:
    """A LayerNorm as a plain function; `F.layer_norm` is Python around this one, and dear where rows are few."""
    shape, eps = module.normalized_shape, module.eps
    weight, bias = (None if part is None else part.data for part in (module.weight, module.bias))
    return lambda hidden: torch.layer_norm(hidden, shape, weight, bias, eps)


def is_quantized(module: Any) -> bool:
    """Whether a linear layer's numbers are packed in a way that only its own `forward` can read."""
    return not module.weight.is_floating_point()


def _packed(linears: Sequence[Any]) -> Linear | None:
    """bfloat16 on a CPU: oneDNN brings a plain weight into blocks at every call, which is a third of a product with few
    rows; here it is done once. The modules lose their weights, so that memory is not taken twice.

    None where it does not apply: other dtypes gain nothing.
    """
    weight = linears[0].weight
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not torch._C._has_mkldnn:
        return None
    bias = _joined_bias(linears)
    blocks = torch.ops.mkldnn._reorder_linear_weight(torch.cat([linear.weight.data for linear in linears]), None)
    for linear in linears:
        linear.weight = torch.nn.Parameter(linear.weight.to("meta"), requires_grad=False)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda hidden: multiply(hidden, blocks, bias, "none", [], "")


def _joined(linears: Sequence[Any]) -> torch.Tensor:
    """Weights below each other, (sum of outputs, inputs)."""
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
