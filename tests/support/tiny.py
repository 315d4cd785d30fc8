"""Tiny BLIP-2 checkpoints with wide random weights: folders as `from_pretrained` reads them, made in a second.

Every matrix is drawn with standard deviation 2/sqrt(fan-in): with the narrow default a random model repeats one
token for any input, and a comparison of answers proves nothing.
"""

import math
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
)

from tests.support.byte_level import ALPHABET, make_byte_tokenizer

NUM_QUERY_TOKENS = 5
IMAGE_SIZE = 28
END_TOKEN = 2 + ALPHABET.index("Ċ")


def save_tiny_checkpoint(folder: Path, family: str, *, seed: int = 0, **text_config: object) -> Path:
    """Write a random checkpoint of `family` ("opt", "t5" or "instructblip") with its processor to `folder`."""
    tokenizer = byte_tokenizer(family)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = _config(family, tokenizer, image_token, text_config)
    model_class = InstructBlipForConditionalGeneration if family == "instructblip" else Blip2ForConditionalGeneration
    _widened(model_class(config), seed).save_pretrained(folder)
    image_processor = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    if family == "instructblip":
        processor = InstructBlipProcessor(image_processor, tokenizer, instruction_tokenizer(), NUM_QUERY_TOKENS)
    else:
        processor = Blip2Processor(image_processor, tokenizer, num_query_tokens=NUM_QUERY_TOKENS)
    processor.save_pretrained(folder)
    return folder


def save_tiny_retrieval_checkpoint(folder: Path, *, seed: int = 1, tower_of: Path | None = None) -> Path:
    """Write a random matching checkpoint with its processor; its tower, but for the last norm, may be another's."""
    tokenizer = instruction_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    reads = {"vocab_size": len(tokenizer), "encoder_hidden_size": 32, "use_qformer_text_input": True}
    config = Blip2Config(
        vision_config={**tower, "hidden_size": 32, "image_size": IMAGE_SIZE, "patch_size": 14},
        qformer_config={**tower, "hidden_size": 24, "max_position_embeddings": 64, **reads},
        num_query_tokens=NUM_QUERY_TOKENS,
        image_text_hidden_size=16,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = _widened(Blip2ForImageTextRetrieval(config), seed)
    if tower_of is not None:
        seeing = Blip2ForConditionalGeneration.from_pretrained(tower_of).vision_model.state_dict()
        kept = {name: weight for name, weight in seeing.items() if "post_layernorm" not in name}
        model.vision_model.load_state_dict(kept, strict=False)
    torch.nn.init.normal_(model.vision_model.post_layernorm.weight, mean=1.0, std=0.1)
    model.save_pretrained(folder)
    image_processor = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    Blip2Processor(image_processor, tokenizer, num_query_tokens=NUM_QUERY_TOKENS).save_pretrained(folder)
    return folder


def instruction_tokenizer() -> BertTokenizer:
    """Make a Q-Former's tokenizer: BERT's, one token per letter."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})


def byte_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer with a token per byte. OPT's puts BOS `</s>` first, T5's `</s>` last; both know `<image>`."""
    template = "</s> $A" if family == "opt" else "$A </s>"
    return make_byte_tokenizer(["<pad>", "</s>", *ALPHABET], template)


def _config(
    family: str, tokenizer: PreTrainedTokenizerFast, image_token: int, text: dict[str, object]
) -> Blip2Config | InstructBlipConfig:
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    reads = {"vocab_size": len(instruction_tokenizer()), "encoder_hidden_size": 32}
    return (InstructBlipConfig if family == "instructblip" else Blip2Config)(
        vision_config={**tower, "hidden_size": 32, "image_size": IMAGE_SIZE, "patch_size": 14},
        qformer_config={**tower, "hidden_size": 24, **(reads if family == "instructblip" else {"vocab_size": 8})},
        text_config=(_opt if family == "opt" else _t5)(len(tokenizer), **text),
        num_query_tokens=NUM_QUERY_TOKENS,
        image_token_index=image_token,
    )


def _opt(vocab_size: int, **overrides: object) -> OPTConfig:
    # As in the published checkpoints the end token is not the tokenizer's: it is a newline, byte-level "Ċ".
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2}
    tokens = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END_TOKEN}
    return OPTConfig(**{**sizes, **tokens, "num_attention_heads": 4, "max_position_embeddings": 512, **overrides})


def _t5(vocab_size: int, **overrides: object) -> T5Config:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    tokens = {"vocab_size": vocab_size, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    flan = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}  # False: logits are not scaled
    return T5Config(**{**sizes, **tokens, **flan, **overrides})


def _widened(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    language_model = getattr(model, "language_model", None)
    if language_model is None:
        return _with_wide_matrices(model, seed)
    if language_model.config.model_type == "t5" and not language_model.config.scale_decoder_outputs:
        # Flan-T5's head is its own matrix; transformers ties it unless the file holds both.
        language_model.lm_head.weight = torch.nn.Parameter(language_model.lm_head.weight.detach().clone())
    return _with_wide_matrices(model, seed)


def _with_wide_matrices(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                std = 2 / math.sqrt(parameter.shape[1:].numel())
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model.eval()
