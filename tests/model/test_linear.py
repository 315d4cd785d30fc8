import pytest
import torch
from torch import nn

from blip2_serve.model import linear
from blip2_serve.model.linear import fuse, linear_of, packs_bfloat16


def layers(dtype: torch.dtype, *, bias: bool = True) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(48, width, bias=bias, dtype=dtype) for width in (32, 16, 64)]


@torch.inference_mode()
def test_fused_layers_say_what_they_say_one_by_one() -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        for bias in (True, False):
            linears, hidden = layers(dtype, bias=bias), torch.randn(2, 5, 48, dtype=dtype)
            expected = torch.cat([linear(hidden) for linear in linears], dim=-1)
            torch.testing.assert_close(fuse(linears)(hidden), expected, rtol=0, atol=tolerance)


@torch.inference_mode()
def test_fused_weights_are_not_held_twice() -> None:
    plain = layers(torch.float32)
    fuse(plain)
    assert len({linear.weight.untyped_storage().data_ptr() for linear in plain}) == 1


@torch.inference_mode()
@pytest.mark.skipif(not packs_bfloat16(), reason="oneDNN does not multiply bfloat16 on this CPU")
def test_packed_weights_leave_their_module() -> None:
    (first, *_) = layers(torch.bfloat16)
    packed = linear_of(first)
    assert first.weight.is_meta
    assert packed(torch.ones(3, 48, dtype=torch.bfloat16)).shape == (3, 32)


@torch.inference_mode()
def test_a_cpu_without_bfloat16_in_onednn_multiplies_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "packs_bfloat16", lambda: False)
    module, hidden = nn.Linear(8, 4).bfloat16(), torch.randn(3, 8).bfloat16()
    assert torch.equal(linear_of(module)(hidden), module(hidden))


@torch.inference_mode()
def test_a_packed_product_is_as_near_to_the_truth_as_a_plain_one() -> None:
    (first, *_) = layers(torch.bfloat16)
    hidden = torch.randn(200, 48, dtype=torch.bfloat16)
    truth = first.double()(hidden.double())
    plain = first.bfloat16()(hidden)
    packed = linear_of(first)(hidden)
    assert (packed - truth).abs().max() <= 1.01 * (plain - truth).abs().max()
