"""`base`, a BLIP-2 of middling size with random weights: big enough that arithmetic is what costs.

ViT-B/14 at 224 pixels, a Q-Former and an OPT of 12 layers 768 wide, 32 image tokens, a vocabulary of 1,024 tokens. It
says nothing sensible; it is there to be timed.
"""

from pathlib import Path

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from tests.support.byte_level import ALPHABET, make_byte_tokenizer

VOCABULARY_SIZE = 1_024
NUM_QUERY_TOKENS = 32
TOWER = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3_072}


def save_base(folder: Path) -> Path:
    """The checkpoint as `from_pretrained` reads it, in bfloat16; the same weights each time."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config(tokenizer)).to(torch.bfloat16)
    _draw(model)
    model.save_pretrained(folder)
    size = {"height": 224, "width": 224}
    Blip2Processor(BlipImageProcessorPil(size=size), tokenizer, num_query_tokens=NUM_QUERY_TOKENS).save_pretrained(
        folder
    )
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte, OPT's `</s>` in front, and names without meaning up to the vocabulary's size."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *ALPHABET]
    tokens += [f"<spare {number}>" for number in range(VOCABULARY_SIZE - len(tokens) - 1)]
    return make_byte_tokenizer(tokens, "</s> $A", unk_token="<unk>")


def config(tokenizer: PreTrainedTokenizerFast) -> Blip2Config:
    """The shapes; the text config's end token is OPT's line feed, as in the published checkpoints."""
    (line_feed,) = tokenizer("\n", add_special_tokens=False).input_ids
    text = OPTConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        ffn_dim=3_072,
        max_position_embeddings=2_048,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=line_feed,
    )
    return Blip2Config(
        vision_config={**TOWER, "image_size": 224, "patch_size": 14},
        qformer_config={**TOWER, "encoder_hidden_size": 768, "vocab_size": VOCABULARY_SIZE},
        text_config=text,
        num_query_tokens=NUM_QUERY_TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )


@torch.no_grad()
def _draw(model: Blip2ForConditionalGeneration) -> None:
    """Matrices that keep the size of what they are given: transformers' own start would let pictures vanish."""
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
        elif name.endswith("bias"):
            weight.zero_()
