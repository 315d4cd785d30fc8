"""Load a checkpoint once: weights, tokenizer, image processor, on the chosen device in the chosen dtype."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip_2.configuration_blip_2 import Blip2Config
from transformers.models.blip_2.modeling_blip_2 import Blip2ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.checkpoints import find_known, public_name
from blip2_serve.model.device import Placement, choose_placement
from blip2_serve.prompts import Family

logger = logging.getLogger(__name__)

# BLIP-2's published demos and LAVIS keep everything the language model sees within this.
MAX_CONTEXT_TOKENS = 512


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything of one checkpoint that requests need; read-only after loading.

    Attributes:
        name: what the outside may know it by (never a path).
        model: on its device, in evaluation mode, without gradients.
        caption_prompt: the checkpoint's own prompt for captions, often "".
        max_context_tokens: image rows, prompt and new tokens together.
    """

    name: str
    family: Family
    model: Blip2ForConditionalGeneration
    tokenizer: Any
    image_processor: BlipImageProcessorPil
    caption_prompt: str
    max_context_tokens: int
    placement: Placement

    @property
    def num_query_tokens(self) -> int:
        """Rows that one picture takes in the language model's context."""
        return int(self.model.config.num_query_tokens)

    @property
    def image_size(self) -> int:
        """Side of the square that pictures are resized to, in pixels."""
        return int(self.image_processor.size["height"])

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a prompt, special tokens of the template included; spelled-out ones stay plain text."""
        ids: list[int] = self.tokenizer(text, split_special_tokens=True)["input_ids"]
        return ids

    def decode_text(self, ids: list[int]) -> str:
        """The text of generated ids, without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def check_model(settings: Settings, folder: Path) -> Placement:
    """Find out without reading weights whether `load_model` would refuse.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine.
    """
    config = Blip2Config.from_pretrained(folder)
    return choose_placement(settings, _family(config), count_parameters(folder))


def load_model(settings: Settings, folder: Path) -> LoadedModel:
    """Read the checkpoint in `folder` (see `locate.locate_checkpoint`) onto its device.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine.
    """
    _quieten_transformers()
    config = Blip2Config.from_pretrained(folder)
    placement = check_model(settings, folder)
    logger.info("%s on %s", settings.model, placement.reason)
    known = find_known(settings.model)
    return LoadedModel(
        name=public_name(settings.model),
        family=_family(config),
        model=_load_weights(folder, placement),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        image_processor=BlipImageProcessorPil.from_pretrained(folder),
        caption_prompt=known.caption_prompt if known else "",
        max_context_tokens=_context_size(config),
        placement=placement,
    )


def count_parameters(folder: Path) -> int:
    """Parameters in a checkpoint, from the headers of its safetensors files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            shapes = (weights.get_slice(name).get_shape() for name in weights.keys())  # noqa: SIM118 (safe_open is no dict)
            total += sum(torch.Size(shape).numel() for shape in shapes)
    return total


def _load_weights(folder: Path, placement: Placement) -> Blip2ForConditionalGeneration:
    try:
        model = Blip2ForConditionalGeneration.from_pretrained(
            folder, dtype=placement.dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise StartupError(f"the checkpoint in {folder.name!r} cannot be loaded: {error}") from error
    return model.to(placement.device).eval().requires_grad_(False)


def _family(config: Blip2Config) -> Family:
    return "opt" if config.use_decoder_only_language_model else "t5"


def _context_size(config: Blip2Config) -> int:
    positions = getattr(config.text_config, "max_position_embeddings", MAX_CONTEXT_TOKENS)
    return min(MAX_CONTEXT_TOKENS, int(positions))


def _quieten_transformers() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
