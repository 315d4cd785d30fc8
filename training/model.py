"""The tiny BLIP-2: its configuration, and initial weights from which it learns in an hour.

transformers draws the vision tower's matrices with a deviation of 1e-10 and sets the queries to zero, which is
harmless where trained weights follow and hopeless where training begins. All weights but a T5's are drawn anew here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from training.pictures.pool import GRID, IMAGE_SIZE, PATCH_SIZE
from training.texts.tokenizer import END_OF_ANSWER, IMAGE_TOKEN, MAX_CONTEXT

NUM_QUERY_TOKENS = 16
VISION_WIDTH = 192
TEXT_WIDTH = 128
NUM_LAYERS = 3  # of the Q-Former and of the language model


def processor(tokenizer: PreTrainedTokenizerFast) -> Blip2Processor:
    """Build the processor, which squashes pictures to the model's square and puts image tokens before the text."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return Blip2Processor(BlipImageProcessorPil(size=size), tokenizer, num_query_tokens=NUM_QUERY_TOKENS)


def opt_config(tokenizer: PreTrainedTokenizerFast) -> OPTConfig:
    """Configure an OPT: three layers, 128 wide, room for the whole context of 512 tokens."""
    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        ffn_dim=3 * TEXT_WIDTH,
        max_position_embeddings=MAX_CONTEXT,
        dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer(END_OF_ANSWER, add_special_tokens=False).input_ids[0],
    )


def t5_config(tokenizer: PreTrainedTokenizerFast) -> T5Config:
    """Configure a small Flan-T5: gated feed-forward, its own head, three layers each, 128 wide."""
    return T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=2 * TEXT_WIDTH,
        num_layers=NUM_LAYERS,  # of the encoder; the decoder must have as many: its cache is sized by this
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )


def blip2_config(text_config: Any, tokenizer: PreTrainedTokenizerFast) -> Blip2Config:
    """Configure the whole model around a language model."""
    return Blip2Config(
        vision_config=Blip2VisionConfig(
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            hidden_size=VISION_WIDTH,
            intermediate_size=4 * VISION_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            initializer_range=0.02,
        ),
        qformer_config=Blip2QFormerConfig(
            hidden_size=TEXT_WIDTH,
            num_hidden_layers=NUM_LAYERS,
            num_attention_heads=4,
            intermediate_size=2 * TEXT_WIDTH,
            cross_attention_frequency=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            encoder_hidden_size=VISION_WIDTH,
            vocab_size=len(tokenizer),
        ),
        text_config=text_config,
        num_query_tokens=NUM_QUERY_TOKENS,
        image_text_hidden_size=TEXT_WIDTH,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    )


def new_model(config: Blip2Config, seed: int) -> Blip2ForConditionalGeneration:
    """Return a fresh model whose weights depend on `seed` alone."""
    torch.manual_seed(seed)
    model = Blip2ForConditionalGeneration(config)
    # On a CPU the fused attention's backward pass is several times slower than plain matrix products.
    model.set_attn_implementation("eager")
    is_t5 = not config.use_decoder_only_language_model
    with torch.no_grad():
        for name, module in model.named_modules():
            # T5's unscaled attention relies on T5's own initial weights.
            if not (is_t5 and name.startswith("language_model")):
                start_module(module)
        nn.init.normal_(model.query_tokens)
        nn.init.normal_(model.vision_model.embeddings.class_embedding)
        model.vision_model.embeddings.position_embedding[0, 1:] = sin_cos_2d(GRID, VISION_WIDTH)
    if is_t5:
        _untie(model.language_model)
    return model


def _untie(language_model: Any) -> None:
    """Give T5 its own head, as Flan-T5 has: transformers ties the head of a new model."""
    head = torch.empty(language_model.config.vocab_size, TEXT_WIDTH)
    language_model.lm_head.weight = nn.Parameter(nn.init.normal_(head, std=1 / math.sqrt(TEXT_WIDTH)))
    language_model.config.tie_word_embeddings = False


def start_module(module: nn.Module) -> None:
    """Draw matrices that keep the scale of their inputs; biases are zero."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        # The head is tied to the embeddings: their length sets how sharp the first guesses are.
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.embedding_dim))


def sin_cos_2d(grid: int, width: int) -> Tensor:
    """Return position embeddings (grid * grid, width) float32: sine and cosine of y and of x, a quarter each."""
    frequencies = math.pi / 2 ** torch.linspace(0, math.log2(grid * 2), width // 4)
    angles = torch.arange(grid)[:, None] * frequencies[None]
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)
