"""InstructBLIP's Q-Former against transformers' own module."""

import pytest
import torch
from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

from blip2_serve.model.vision.instructed_qformer import InstructedQFormer

NUM_QUERIES = 6


def qformer(frequency: int) -> InstructBlipQFormerModel:
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 64}
    config = InstructBlipQFormerConfig(
        **sizes, encoder_hidden_size=48, cross_attention_frequency=frequency, vocab_size=20, max_position_embeddings=16
    )
    torch.manual_seed(0)
    model = InstructBlipQFormerModel(config).double().eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5 if weight.ndim > 1 else 1.0)
    return model


def answered(
    model: InstructBlipQFormerModel, queries: torch.Tensor, seen: torch.Tensor, ids: list[int]
) -> torch.Tensor:
    """Return transformers' answer for one picture and prompt, (query tokens, width)."""
    output = model(torch.tensor([ids]), query_embeds=queries[None], encoder_hidden_states=seen[None])
    return output.last_hidden_state[0, :NUM_QUERIES]


@torch.inference_mode()
@pytest.mark.parametrize("frequency", [1, 2, 3])
@pytest.mark.parametrize(
    "instructions", [[(1, 2, 3), (4, 5, 6)], [(1,), (7, 8, 9, 10, 11)], [tuple(range(16)), (3, 3)]]
)
def test_each_picture_and_prompt_is_answered_as_alone(frequency: int, instructions: list[tuple[int, ...]]) -> None:
    model = qformer(frequency)
    queries = torch.randn(2, NUM_QUERIES, 32, dtype=torch.float64)
    seen = torch.randn(2, 17, 48, dtype=torch.float64)
    expected = [answered(model, *each) for each in zip(queries, seen, map(list, instructions), strict=True)]
    ours = InstructedQFormer(model)(queries, seen, instructions)
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-9, atol=1e-9)


@torch.inference_mode()
def test_the_answer_depends_on_the_prompt() -> None:
    model = qformer(2)
    queries, seen = torch.randn(1, NUM_QUERIES, 32).double(), torch.randn(1, 17, 48).double()
    ask = InstructedQFormer(model)
    assert not torch.allclose(ask(queries, seen, [(1, 2)]), ask(queries, seen, [(1, 3)]))
