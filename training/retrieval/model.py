"""The model of `demo-itm`: the tower of `demo` as it is, its Q-Former to begin with, and heads that are new."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    PreTrainedTokenizerFast,
)

from training.checkpoint import CHECKPOINTS
from training.model import processor, start_module
from training.texts.tokenizer import IMAGE_TOKEN

NAME = "demo-itm"
WIDTH = 256  # of the unit vectors, as in the large checkpoints
MAX_TEXT_TOKENS = 128


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Blip2ForImageTextRetrieval:
    """Return a model that sees as `demo` does and has not learned to read; its tower is frozen but for the last norm.

    The published checkpoints share a tower and have each their own last norm.
    """
    torch.manual_seed(seed)
    seeing = Blip2ForConditionalGeneration.from_pretrained(CHECKPOINTS / "demo", dtype=torch.float32)
    model = Blip2ForImageTextRetrieval(_config(seeing.config, tokenizer))
    model.set_attn_implementation("eager")  # see training/model.py
    for module in model.modules():
        start_module(module)
    model.vision_model.load_state_dict(seeing.vision_model.state_dict())
    model.qformer.load_state_dict(seeing.qformer.state_dict(), strict=False)  # the feed-forward for text stays new
    model.query_tokens.data.copy_(seeing.query_tokens)
    model.vision_model.requires_grad_(False)
    model.vision_model.post_layernorm.requires_grad_(True)
    return model


def _config(seeing: Blip2Config, tokenizer: PreTrainedTokenizerFast) -> Blip2Config:
    qformer = copy.deepcopy(seeing.qformer_config)
    qformer.use_qformer_text_input = True
    qformer.vocab_size = len(tokenizer)
    qformer.max_position_embeddings = MAX_TEXT_TOKENS
    qformer.pad_token_id = tokenizer.pad_token_id
    return Blip2Config(
        vision_config=seeing.vision_config,
        qformer_config=qformer,
        text_config=seeing.text_config,  # transformers wants one, and makes nothing of it
        num_query_tokens=seeing.num_query_tokens,
        image_text_hidden_size=WIDTH,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    )


def save(model: Blip2ForImageTextRetrieval, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model with its processor, in bfloat16."""
    stored = copy.deepcopy(model).to(torch.bfloat16)
    stored.set_attn_implementation("sdpa")
    stored.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # see training/checkpoint.py
    processor(tokenizer).save_pretrained(folder)
