"""BLIP-2s with the published checkpoints' shapes and random weights, made on the device without a network.

They say nothing sensible and never end: every caption has exactly as many tokens as are asked for.
"""

from typing import Any

import torch
from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig, T5Config

IMAGE_TOKEN_ID = 9


def published_config(name: str) -> Any:
    """The config of `blip2-opt-2.7b` or `blip2-flan-t5-xl`; vision tower and Q-Former are Blip2Config's defaults."""
    if name == "blip2-opt-2.7b":
        sizes = {"hidden_size": 2560, "word_embed_proj_dim": 2560, "ffn_dim": 10240}
        text = opt_config(vocab_size=50304, num_hidden_layers=32, num_attention_heads=32, **sizes)
    else:
        sizes = {"d_model": 2048, "d_kv": 64, "d_ff": 5120}
        text = t5_config(vocab_size=32128, num_layers=24, num_heads=32, **sizes)
    return Blip2Config(text_config=text, num_query_tokens=32, image_token_index=IMAGE_TOKEN_ID)


def tiny_config(name: str) -> Any:
    """The same family, small enough for a test."""
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    if name == "blip2-opt-2.7b":
        sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48}
        text = opt_config(vocab_size=96, num_hidden_layers=2, num_attention_heads=4, **sizes)
    else:
        text = t5_config(vocab_size=96, num_layers=2, num_heads=4, d_model=32, d_kv=8, d_ff=48)
    return Blip2Config(
        vision_config={**tower, "image_size": 28, "patch_size": 14},
        qformer_config={**tower, "encoder_hidden_size": 32, "vocab_size": 8},
        text_config=text,
        num_query_tokens=4,
        image_token_index=IMAGE_TOKEN_ID,
    )


def opt_config(**sizes: int) -> OPTConfig:
    return OPTConfig(**sizes, pad_token_id=1, bos_token_id=2, eos_token_id=None)


def t5_config(**sizes: int) -> T5Config:
    """Flan-T5's: gated, and with a head of its own."""
    return T5Config(
        **sizes,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=0,
        decoder_start_token_id=0,
        eos_token_id=None,
    )


def random_model(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """On its device, in `dtype`, in evaluation mode; the same weights each time."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Blip2ForConditionalGeneration(config)
    # `generate` would take the default ids of the outer config for ends.
    model.generation_config.eos_token_id = model.language_model.generation_config.eos_token_id = None
    return model.to(dtype).eval().requires_grad_(False)
