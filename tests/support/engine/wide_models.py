"""Tiny BLIP-2 models with wide random weights, and transformers' own answers to compare with.

Narrow random weights repeat one token and prove nothing: here every matrix is drawn with std 2 / sqrt(fan-in), so
that the next token depends on everything the model has seen.
"""

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Literal

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2VisionConfig,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    OPTConfig,
    T5Config,
)

from blip2_serve.engine.messages import FinishedRow, ImageInput, Request
from blip2_serve.families import Family, find_family
from blip2_serve.options import DecodingOptions

VOCAB_SIZE = 96
IMAGE_ID = 95
PAD_ID, BOS_ID, END_ID = 1, 2, 3
MANY_END_IDS = [END_ID, 17, 33, 49, 65, 81]
Ends = Literal["none", "one", "many"]
NUM_QUERIES = 4
IMAGE_SIZE = 28
IMAGE_PROCESSOR = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
# Each with a seed whose texts are varied and of many lengths.
KINDS = {
    "opt": 2,
    "opt-post-norm": 0,
    "opt-projected": 2,
    "opt-bare": 1,
    "t5-gated-untied": 3,
    "t5-plain-tied": 5,
    "t5-instructed": 3,
}


def family_of(model: Any) -> Family:
    """Find the family of a model by its config."""
    family = find_family(model.config.model_type, model.config.text_config.model_type)
    assert family is not None
    return family


@lru_cache
def make_model(kind: str, ends: Ends, dtype: torch.dtype = torch.float64) -> Any:
    """Make a BLIP-2 of KINDS, or an InstructBLIP, with no end token, one, or six; they end a text often."""
    text = _opt(kind) if kind.startswith("opt") else _t5(kind)
    text.eos_token_id = {"none": None, "one": END_ID, "many": MANY_END_IDS}[ends]
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    vision = Blip2VisionConfig(**size, image_size=IMAGE_SIZE, patch_size=14)
    instructed = kind == "t5-instructed"
    qformer = {**size, "vocab_size": VOCAB_SIZE, "encoder_hidden_size": 32, "cross_attention_frequency": 1}
    config = (InstructBlipConfig if instructed else Blip2Config)(
        vision_config=vision.to_dict(),
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=NUM_QUERIES,
        image_token_index=IMAGE_ID,
    )
    torch.manual_seed(KINDS[kind])
    model_class = InstructBlipForConditionalGeneration if instructed else Blip2ForConditionalGeneration
    model = model_class(config).eval().requires_grad_(False)
    if kind in ("t5-gated-untied", "t5-instructed"):
        head = model.language_model.lm_head
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(std=2 / math.sqrt(weight.shape[1:].numel()))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            module.weight.data.normal_(std=4 if "relative" in name else 1.5)
    if kind == "t5-plain-tied":
        # T5's tied head repeats what it was fed where embeddings are large.
        model.language_model.shared.weight.data *= 0.07
    model.language_model.lm_head.weight.data[END_ID] *= (3 if kind.startswith("opt") else 1.6) if ends == "one" else 1
    return model.to(dtype)


def _opt(kind: str) -> OPTConfig:
    return OPTConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=320,
        do_layer_norm_before=kind != "opt-post-norm",
        word_embed_proj_dim=20 if kind == "opt-projected" else 32,
        enable_bias=kind != "opt-bare",
        layer_norm_elementwise_affine=kind != "opt-bare",
        _remove_final_layer_norm=kind == "opt-bare",
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=END_ID,
    )


def _t5(kind: str) -> T5Config:
    gated = kind != "t5-plain-tied"
    return T5Config(
        vocab_size=VOCAB_SIZE,
        d_model=32,
        d_kv=12,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        pad_token_id=PAD_ID,
        decoder_start_token_id=PAD_ID,
        eos_token_id=END_ID,
    )


@dataclass(frozen=True)
class Case:
    """A request in the tests' own terms; `image_seed` draws its pixels."""

    image_seed: int
    prompt_ids: tuple[int, ...]
    options: DecodingOptions

    def request(self, request_id: int, *, model: Any = None, **more: Any) -> Request:
        """Build the request; where the Q-Former of `model` reads the prompt, it is shown the same ids."""
        picture = image(self.image_seed)
        if model is not None:
            picture = instructed(model, picture, self.prompt_ids)
        return Request(request_id, picture, self.prompt_ids, self.options, **more)


def instructed(model: Any, picture: ImageInput, prompt_ids: tuple[int, ...]) -> ImageInput:
    """Add the prompt's ids to the picture if the model's Q-Former reads them."""
    if not family_of(model).reads_instruction:
        return picture
    return replace(picture, key=picture.key + bytes(prompt_ids), instruction_ids=prompt_ids)


def image(seed: int) -> ImageInput:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (IMAGE_SIZE * IMAGE_SIZE * 3,), generator=generator, dtype=torch.uint8)
    return ImageInput(key=b"image%d" % seed, pixels=pixels.numpy().tobytes())


def pixel_values_of(picture: ImageInput) -> torch.Tensor:
    """Convert to (1, 3, S, S) float32 by transformers' image processor."""
    pixels = torch.frombuffer(bytearray(picture.pixels), dtype=torch.uint8).view(IMAGE_SIZE, IMAGE_SIZE, 3)
    return IMAGE_PROCESSOR(pixels.numpy(), do_resize=False, return_tensors="pt")["pixel_values"]


@dataclass(frozen=True)
class Oracle:
    """transformers' answer: ids of each returned sequence (end token included, padding not), and its scores."""

    ids: list[tuple[int, ...]]
    logprobs: list[tuple[float, ...]]
    beam_scores: list[float] | None


@cache
def ask_transformers(model: Any, case: Case) -> Oracle:
    """Return the answer of `Blip2ForConditionalGeneration.generate` to the case alone."""
    options = case.options
    pixel_values = pixel_values_of(image(case.image_seed)).to(model.dtype)
    beam_options = {"length_penalty": options.length_penalty, "early_stopping": options.early_stopping}
    if options.num_beams == 1:
        beam_options = {}
    input_ids = torch.tensor([(IMAGE_ID,) * NUM_QUERIES + case.prompt_ids])
    out = model.generate(
        pixel_values=pixel_values,
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        **{name: torch.tensor([ids]) for name, ids in family_of(model).reference_inputs(case.prompt_ids).items()},
        do_sample=False,
        num_beams=options.num_beams,
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens or None,
        repetition_penalty=options.repetition_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        num_return_sequences=options.num_return_sequences,
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
        **beam_options,
    )
    prompt_length = 1 if model.config.text_config.is_encoder_decoder else input_ids.shape[1]
    end_ids = model.language_model.generation_config.eos_token_id
    rows = [_cut(row[prompt_length:].tolist(), end_ids) for row in out.sequences]
    beam_indices = getattr(out, "beam_indices", None)
    logprobs = [_logprobs(out.logits, ids, row, beam_indices) for row, ids in enumerate(rows)]
    scores = out.sequences_scores.tolist() if options.num_beams > 1 else None
    return Oracle(rows, logprobs, scores)


def _cut(ids: list[int], end_ids: int | list[int] | None) -> tuple[int, ...]:
    """Cut the padding that follows the first end token."""
    ends = [end_ids] if isinstance(end_ids, int) else end_ids or []
    length = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    return tuple(ids[:length])


def _logprobs(
    logits: tuple[torch.Tensor, ...], ids: tuple[int, ...], row: int, beam_indices: torch.Tensor | None
) -> tuple[float, ...]:
    rows = [row if beam_indices is None else int(beam_indices[row, step]) for step in range(len(ids))]
    return tuple(
        logits[step][source].float().log_softmax(-1)[token].item()
        for step, (source, token) in enumerate(zip(rows, ids, strict=True))
    )


def ids_of(rows: tuple[FinishedRow, ...]) -> list[tuple[int, ...]]:
    return [row.ids for row in rows]
