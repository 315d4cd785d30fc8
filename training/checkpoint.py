"""Writes checkpoints in the form that `from_pretrained` reads."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from training.model import processor

CHECKPOINTS = Path(__file__).parent.parent / "blip2_serve" / "checkpoints"


def save(model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model with its processor, in bfloat16: half the size, and the precision of training."""
    stored = copy.deepcopy(model).to(torch.bfloat16)
    stored.set_attn_implementation("sdpa")
    stored.save_pretrained(folder)
    # safetensors makes the file private, which a server under another user could not read.
    (folder / "model.safetensors").chmod(0o644)
    processor(tokenizer).save_pretrained(folder)
