"""The floor's arithmetic, compared with what PyTorch counts while transformers' modules run."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    DynamicCache,
    EncoderDecoderCache,
    OPTConfig,
    T5Config,
)

from benchmarks.measure.floor import (
    Machine,
    bytes_per_step,
    floor_seconds,
    flops_per_caption,
    measured_bandwidth,
    measured_matrix_rate,
    weights_read,
)
from benchmarks.measure.shapes import published_config

PROMPT_TOKENS = 3
TEXTS = {
    "opt": OPTConfig(
        vocab_size=50, hidden_size=24, ffn_dim=40, num_hidden_layers=3, num_attention_heads=4, word_embed_proj_dim=24
    ),
    "t5": T5Config(
        vocab_size=50, d_model=24, d_kv=5, d_ff=40, num_layers=2, num_decoder_layers=3, num_heads=4,
        feed_forward_proj="gated-gelu",
    ),
    "plain t5": T5Config(vocab_size=50, d_model=24, d_kv=5, d_ff=40, num_layers=2, num_heads=4),
}  # fmt: skip
FAMILIES = sorted(TEXTS)


def make_config(family: str) -> Any:
    tower = {"num_attention_heads": 2, "num_hidden_layers": 3}
    return Blip2Config(
        vision_config={**tower, "hidden_size": 16, "intermediate_size": 28, "image_size": 28, "patch_size": 7},
        qformer_config={
            **tower,
            "hidden_size": 12,
            "intermediate_size": 20,
            "encoder_hidden_size": 16,
            "vocab_size": 8,
        },
        text_config=TEXTS[family],
        num_query_tokens=6,
    )


def make_model(family: str) -> Any:
    model = Blip2ForConditionalGeneration(make_config(family)).eval().requires_grad_(False)
    model.set_attn_implementation("eager")  # the counter knows plain products, not every fused attention
    return model


@torch.inference_mode()
def counted(run: Any, *arguments: Any, **named: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        run(*arguments, **named)
    return counter.get_total_flops()


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_of_the_image_are_those_that_run(family: str) -> None:
    model = make_model(family)
    flops = flops_per_caption(model.config, 1)
    assert flops.vit == counted(model.vision_model, torch.zeros(1, 3, 28, 28))
    seen = torch.zeros(1, 17, 16)
    queries = counted(model.qformer, query_embeds=model.query_tokens, encoder_hidden_states=seen)
    assert flops.qformer == queries + counted(model.language_projection, torch.zeros(1, 6, 12))


def test_flops_of_an_opt_are_those_that_run() -> None:
    model = make_model("opt")
    decoder, prefix = model.language_model.model.decoder, 6 + PROMPT_TOKENS - 1
    all_layers = counted(decoder, inputs_embeds=torch.zeros(1, prefix, 24))
    # transformers computes the last layer to its end, and every query's product with later keys, too.
    spared = 2 * prefix * (2 * 24**2 + 2 * 24 * 40) + 4 * prefix**2 * 24
    masked = 2 * 4 * 24 * (prefix**2 - prefix * (prefix + 1) // 2)
    assert flops(model, 1).prefill == all_layers - spared - masked
    cache = DynamicCache(config=model.config.text_config)
    with torch.inference_mode():
        decoder(inputs_embeds=torch.zeros(1, prefix, 24), cache=cache)
    for step in range(2):
        arguments = {"input_ids": torch.tensor([[5]]), "cache": cache}
        assert flops_of_step(model, step) == counted(model.language_model, **arguments)


@pytest.mark.parametrize("family", ["t5", "plain t5"])
def test_flops_of_a_t5_are_those_that_run(family: str) -> None:
    model = make_model(family)
    language_model, prefix = model.language_model, 6 + PROMPT_TOKENS
    encoder = counted(language_model.encoder, inputs_embeds=torch.zeros(1, prefix, 24))
    config = model.config.text_config
    cross = config.num_decoder_layers * 2 * prefix * 24 * 2 * 20
    assert flops(model, 1).prefill == encoder + cross
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    arguments = {"encoder_outputs": (torch.zeros(1, prefix, 24),), "cache": cache}
    feed = {"decoder_input_ids": torch.tensor([[0]])}
    # Its first step computes the keys and values of the encoder's output.
    assert flops_of_step(model, 0) + cross == counted(language_model, **arguments, **feed)
    assert flops_of_step(model, 1) == counted(language_model, **arguments, **feed)


def flops(model: Any, new_tokens: int, beams: int = 1) -> Any:
    return flops_per_caption(model.config, new_tokens, beams, prompt_tokens=PROMPT_TOKENS)


def flops_of_step(model: Any, step: int) -> float:
    return flops(model, step + 1).decode - flops(model, step).decode


@pytest.mark.parametrize("family", FAMILIES)
def test_every_beam_costs_a_row_from_the_second_step_on(family: str) -> None:
    model = make_model(family)
    one, five = flops(model, 4), flops(model, 4, beams=5)
    assert (five.vit, five.qformer, five.prefill) == (one.vit, one.qformer, one.prefill)
    assert five.decode == flops_of_step(model, 0) + 5 * sum(flops_of_step(model, step) for step in (1, 2, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_the_model(family: str) -> None:
    model, numbers = make_model(family), weights_read(make_config(family))
    assert numbers.vit == matrices(model.vision_model)
    assert numbers.qformer == matrices(model.qformer) + matrices(model.language_projection)
    language_model = model.language_model
    decoder = language_model.decoder if "t5" in family else language_model.model.decoder
    crosses = [
        part for name, part in decoder.named_modules() if name.endswith(("EncDecAttention.k", "EncDecAttention.v"))
    ]
    cross_inputs = sum(map(matrices, crosses))
    assert numbers.decode == matrices(decoder) - cross_inputs + language_model.lm_head.weight.numel()
    if "t5" in family:
        assert numbers.prefill == matrices(language_model.encoder) + cross_inputs


def matrices(module: torch.nn.Module) -> int:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, kinds))


def test_a_published_checkpoint_has_its_size() -> None:
    """OPT-2.7B: 32 layers of 2560, of which one token takes twice as many FLOPs as it has numbers."""
    config = published_config("blip2-opt-2.7b")
    assert weights_read(config).decode == pytest.approx(2.645e9, rel=1e-3)
    assert weights_read(config).vit == pytest.approx(0.98e9, rel=0.02)
    # 320 KiB of keys and values a token in half precision.
    assert bytes_per_step(config, 1, 1) - bytes_per_step(config, 1, 0) == 320 * 1024


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_reads_its_weights_once_and_its_keys_each_time(family: str) -> None:
    config = make_config(family)
    one, two = (bytes_per_step(config, batch, 0, itemsize=1) for batch in (1, 2))
    assert weights_read(config).decode < one < two < 2 * one
    assert bytes_per_step(config, 1, 0, itemsize=4) == 4 * one


def test_the_floor_is_what_is_slower_memory_or_arithmetic() -> None:
    config = make_config("opt")
    no_memory = floor_seconds(config, Machine(1.0, 1e30), batch=3, new_tokens=4, beams=2)
    assert no_memory.total == pytest.approx(3 * flops_per_caption(config, 4, 2).total)
    no_arithmetic = floor_seconds(config, Machine(1e30, 1.0), batch=3, new_tokens=4, beams=2)
    numbers = weights_read(config)
    assert no_arithmetic.vit == 2 * numbers.vit
    assert no_arithmetic.decode == sum(bytes_per_step(config, 3, step, beams=2) for step in range(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cpu_multiplies_at_some_rate(dtype: torch.dtype) -> None:
    threads = torch.get_num_threads()
    assert 1e8 < measured_matrix_rate(dtype, "cpu", 1, side=256) < 1e14
    assert torch.get_num_threads() == threads


def test_memory_has_some_bandwidth() -> None:
    assert 1e8 < measured_bandwidth("cpu", 1, num_bytes=2**24) < 1e13
