"""The vision half against transformers' own modules."""

from functools import partial

import pytest
import torch
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from blip2_serve.model.vision.qformer import QFormer
from blip2_serve.model.vision.tower import VisionTower

VISION = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 64}
VARIANTS = {
    "plain": {},
    "without biases": {"qkv_bias": False},
    "other activation": {"hidden_act": "gelu_new"},
    "a margin that no patch covers": {"image_size": 33},
}


def wide(module: torch.nn.Module) -> None:
    """Draw weights with deviation 1/sqrt(inputs), so that every part of the module counts."""
    torch.manual_seed(0)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5 if weight.ndim > 1 else 1.0)


def vision_model(dtype: torch.dtype, **fields: object) -> Blip2VisionModel:
    model = Blip2VisionModel(Blip2VisionConfig(**{**VISION, "image_size": 28, "patch_size": 7, **fields}))
    wide(model)
    return model.to(dtype).eval()


def qformer(dtype: torch.dtype, frequency: int) -> Blip2QFormerModel:
    config = Blip2QFormerConfig(**VISION, encoder_hidden_size=48, cross_attention_frequency=frequency, vocab_size=8)
    model = Blip2QFormerModel(config)
    wide(model)
    return model.to(dtype).eval()


@torch.inference_mode()
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_tower_sees_what_transformers_sees(variant: str) -> None:
    model = vision_model(torch.float64, **VARIANTS[variant])
    pixels = torch.randn(3, 3, model.config.image_size, model.config.image_size, dtype=torch.float64)
    expected = model(pixels).last_hidden_state
    torch.testing.assert_close(model.post_layernorm(VisionTower(model)(pixels)), expected, rtol=1e-9, atol=1e-9)


@torch.inference_mode()
@pytest.mark.parametrize("frequency", [1, 2, 3])
def test_the_qformer_answers_what_transformers_answers(frequency: int) -> None:
    model = qformer(torch.float64, frequency)
    queries, seen = (torch.randn(2, n, width, dtype=torch.float64) for n, width in ((6, 32), (17, 48)))
    expected = model(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
    torch.testing.assert_close(QFormer(model)(queries, seen), expected, rtol=1e-9, atol=1e-9)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_takes_the_tower_no_further_from_the_truth_than_transformers(dtype: torch.dtype) -> None:
    build = partial(vision_model, image_size=56)
    pixels = torch.randn(8, 3, 56, 56).to(dtype)
    truth = build(torch.float32).to(dtype).double()(pixels.double()).last_hidden_state
    theirs = build(dtype)(pixels).last_hidden_state
    model = build(dtype)
    ours = model.post_layernorm(VisionTower(model)(pixels))
    assert (ours - truth).pow(2).mean() <= 1.2 * (theirs - truth).pow(2).mean()
