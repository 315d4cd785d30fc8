"""The slow, obvious way to an answer: transformers' own processor and `generate`, one request at a time.

It is the oracle for everything faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from PIL import Image

from blip2_serve.model.load import LoadedModel
from blip2_serve.options import DecodingOptions, FinishReason


@dataclass(frozen=True, slots=True)
class Generated:
    """New tokens of one answer, the end token included if there is one."""

    ids: list[int]
    finish_reason: FinishReason


class Reference:
    """Answers one request after another. Not thread-safe: sampling seeds torch."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @torch.inference_mode()
    def generate(
        self, image: Image.Image, prompt_ids: list[int], options: DecodingOptions, instruction_ids: Sequence[int] = ()
    ) -> Generated:
        """Continue `prompt_ids` (special tokens included, image tokens not) for an RGB picture of any size.

        `instruction_ids` are the prompt in the tokens of a Q-Former that reads it.
        """
        model, placement = self._loaded.model, self._loaded.placement
        pixels = self._loaded.image_processor(image, return_tensors="pt")["pixel_values"]
        ids = [model.config.image_token_index] * self._loaded.num_query_tokens + prompt_ids
        input_ids = torch.tensor([ids], device=placement.device)
        if options.do_sample:
            _seed(options.seed)
        output = model.generate(
            pixel_values=pixels.to(placement.device, placement.dtype),
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            **self._inputs(instruction_ids),
            **generate_arguments(options),
        )
        # A decoder-only model's output repeats the prompt, an encoder-decoder's begins with the start token.
        begin = len(ids) if self._loaded.family.decoder_only else 1
        return self._finished(output[0, begin:].tolist())

    @torch.inference_mode()
    def score(
        self,
        image: Image.Image,
        prompt_ids: list[int],
        continuation_ids: list[int],
        instruction_ids: Sequence[int] = (),
    ) -> list[float]:
        """Return the log-probability of each token of a continuation, from the model's raw logits."""
        model, placement = self._loaded.model, self._loaded.placement
        pixels = self._loaded.image_processor(image, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(placement.device, placement.dtype)
        return score_continuation(model, pixels, prompt_ids, continuation_ids, **self._inputs(instruction_ids))

    def _inputs(self, instruction_ids: Sequence[int]) -> dict[str, torch.Tensor]:
        inputs = self._loaded.family.reference_inputs(instruction_ids)
        return {name: torch.tensor([ids], device=self._loaded.placement.device) for name, ids in inputs.items()}

    def _finished(self, ids: list[int]) -> Generated:
        has_ended = bool(ids) and ids[-1] in end_ids_of(self._loaded.model.language_model)
        return Generated(ids, "stop" if has_ended else "length")


def score_continuation(
    model: Any,
    pixel_values: torch.Tensor,
    prompt_ids: list[int],
    continuation_ids: list[int],
    **others: torch.Tensor,
) -> list[float]:
    """Return a continuation's log-probabilities from one call of transformers' forward on prompt and continuation.

    `pixel_values` (1, 3, S, S) in the model's dtype; `prompt_ids` as `Reference.generate` takes them; `others` are
    further inputs (1, n) of the family's model; all on one device.
    """
    prompt = [model.config.image_token_index] * model.config.num_query_tokens + prompt_ids
    is_decoder_only = model.config.use_decoder_only_language_model
    input_ids = torch.tensor([prompt + continuation_ids if is_decoder_only else prompt], device=pixel_values.device)
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), **others}
    if not is_decoder_only:
        start = [model.config.text_config.decoder_start_token_id]
        inputs["decoder_input_ids"] = torch.tensor([start + continuation_ids[:-1]], device=pixel_values.device)
    logits = model(pixel_values=pixel_values, **inputs).logits[0]
    # The logits at a token predict the next one; T5's decoder sees nothing but the continuation.
    first = len(prompt) - 1 if is_decoder_only else 0
    logprobs = logits[first : first + len(continuation_ids)].float().log_softmax(dim=-1)
    return [logprobs[place, token].item() for place, token in enumerate(continuation_ids)]


def end_ids_of(language_model: Any) -> tuple[int, ...]:
    """Return the ids that end a text for `generate`; may be empty.

    The nested model's generation_config is made from text_config: the checkpoint's own never reaches it.
    """
    ids = language_model.generation_config.eos_token_id
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


# Ours to handle: the seed is set before, and several sequences are several requests.
_NOT_FOR_GENERATE = {"seed", "num_return_sequences", "early_stopping"}


def generate_arguments(options: DecodingOptions) -> dict[str, Any]:
    """Build the keyword arguments of transformers' `generate`; options of another way to decode are left out."""
    ways = {None, "sampling" if options.do_sample else None, "beams" if options.num_beams > 1 else None}
    names = [field.name for field in fields(options) if field.metadata.get("only") in ways]
    return {name: getattr(options, name) for name in names if name not in _NOT_FOR_GENERATE}


def _seed(seed: int | None) -> None:
    if seed is None:
        torch.seed()
    else:
        torch.manual_seed(seed)
