"""Write tests/model/foreign/before-4.46: tiny checkpoints as transformers 4.45 saves them, and its own answers.

They are the oracle for checkpoints from before 4.46, whose images have no token. The package cannot be imported beside
so old a transformers; run this in an environment of its own:

    python -m venv old && old/bin/pip install transformers==4.45.2 torch pillow
    old/bin/python scripts/write_old_checkpoints.py
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

FOLDER = Path(__file__).resolve().parent.parent / "tests/model/foreign/before-4.46"
FAMILIES = ("opt", "t5", "instructblip")
PROMPTS = ("", "a photo of", "Question: is it red? Answer:")
DECODING = ({"num_beams": 1}, {"num_beams": 5, "length_penalty": -1.0})
MAX_NEW_TOKENS = 12
SIDE = 28
_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
_TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def main() -> None:
    """Write the checkpoints, the picture and answers.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture().save(FOLDER / "picture.png")
    answers: dict[str, Any] = {"transformers": transformers.__version__}
    for seed, family in enumerate(FAMILIES):
        write_checkpoint(FOLDER / family, family, seed)
        answers[family] = answers_of(FOLDER / family)
    (FOLDER / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


def picture() -> Image.Image:
    """Draw colours that differ from pixel to pixel, at the size that the models take."""
    row = torch.arange(SIDE)
    colours = torch.stack([row[:, None] * 9 + row, row[:, None] * row, row * 8 + row[:, None]], dim=-1) % 256
    return Image.fromarray(colours.to(torch.uint8).numpy())


def write_checkpoint(folder: Path, family: str, seed: int) -> None:
    """Write random weights in float16, the tokenizers and the image processor; without what 4.46 added."""
    tokenizer = t5_tokenizer() if family != "opt" else opt_tokenizer()
    model = model_of(family, tokenizer)
    widen(model, seed)
    model.half().save_pretrained(folder)
    # Apart, as their processor adds `<image>` from 4.45 on.
    transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "instructblip":
        bert_tokenizer(folder).save_pretrained(folder / "qformer_tokenizer")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("image_token_index", None) is None
    path.write_text(json.dumps(config, indent=1) + "\n")


def model_of(family: str, tokenizer: Any) -> Any:
    """Make a model as large as the published ones are small; OPT has no embedding to spare, T5 has some."""
    if family == "opt":
        text = transformers.OPTConfig(
            hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128, vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=2,
            eos_token_id=tokenizer.convert_tokens_to_ids("Ċ"),
        )  # fmt: skip
    else:
        text = transformers.T5Config(
            d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=len(tokenizer) + 28, bos_token_id=1,
            feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
        )  # fmt: skip
    reads = family == "instructblip"
    config_class = transformers.InstructBlipConfig if reads else transformers.Blip2Config
    config = config_class(
        vision_config={**_TOWER, "hidden_size": 32, "image_size": SIDE, "patch_size": 14},
        qformer_config={**_TOWER, "hidden_size": 24, "vocab_size": 193, "encoder_hidden_size": 32},
        text_config=text.to_dict(),
        num_query_tokens=4,
    )
    kind = transformers.InstructBlipForConditionalGeneration if reads else transformers.Blip2ForConditionalGeneration
    return kind(config)


def widen(model: Any, seed: int) -> None:
    """Draw wide matrices: with narrow ones a random model repeats one token for any input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                std = 2 / math.sqrt(parameter.shape[1:].numel())
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def opt_tokenizer() -> Any:
    """Make a byte-level BPE whose texts begin with `</s>`, as OPT's do."""
    words = ["Ġa", "Ġo", "ph", "ot"]
    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *_ALPHABET, *words])}
    merges = [("Ġ", "a"), ("Ġ", "o"), ("p", "h"), ("o", "t")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    return transformers.GPT2TokenizerFast(tokenizer_object=backend, add_bos_token=True, **special)


def t5_tokenizer() -> Any:
    """Make a unigram tokenizer whose texts end in `</s>`, with T5's hundred sentinels."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁a", -3.0), ("photo", -4.0)]
    backend = Tokenizer(models.Unigram([*pieces, *((letter, -6.0) for letter in letters)], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.T5TokenizerFast(tokenizer_object=backend, extra_ids=100)


def bert_tokenizer(folder: Path) -> Any:
    """Make the tokenizer of a Q-Former that reads the prompt: one token per letter."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    path = folder / "vocab.txt"
    path.write_text("\n".join(tokens))
    tokenizer = transformers.BertTokenizerFast(str(path))
    path.unlink()
    return tokenizer


def answers_of(folder: Path) -> list[dict[str, Any]]:
    """Generate from every prompt in every way; "ids" are the new tokens alone."""
    reads = "instructblip" in folder.name
    kind = transformers.InstructBlipForConditionalGeneration if reads else transformers.Blip2ForConditionalGeneration
    model = kind.from_pretrained(folder, torch_dtype=torch.float32).eval()
    processor_class = transformers.InstructBlipProcessor if reads else transformers.Blip2Processor
    processor = processor_class.from_pretrained(folder)
    made = []
    for prompt in PROMPTS:
        inputs = processor(Image.open(FOLDER / "picture.png"), prompt, return_tensors="pt")
        for decoding in DECODING:
            # The first id is BOS, which OPT's wrapper adds, or T5's start token.
            ids = model.generate(**inputs, **decoding, max_new_tokens=MAX_NEW_TOKENS)[0, 1:].tolist()
            instruction = inputs["qformer_input_ids"][0].tolist() if reads else []
            prompt_ids = inputs["input_ids"][0].tolist()
            about = {"prompt": prompt, "prompt_ids": prompt_ids, "instruction_ids": instruction}
            made.append({**about, "decoding": {**decoding, "max_new_tokens": MAX_NEW_TOKENS}, "ids": ids})
    return made


if __name__ == "__main__":
    main()
