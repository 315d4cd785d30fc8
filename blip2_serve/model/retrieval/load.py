"""Load the checkpoint that matches pictures with texts, and share the caption model's tower if it is the same."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip2_serve.config import Settings
from blip2_serve.families import RETRIEVAL
from blip2_serve.model.checkpoints import public_name
from blip2_serve.model.device import Placement, choose_placement
from blip2_serve.model.files.fingerprint import fingerprint
from blip2_serve.model.load import LoadedModel, check_config, check_image_size, one_line, quieten_transformers
from blip2_serve.model.weights import load_weights

logger = logging.getLogger(__name__)

_LAST_NORM = "post_layernorm."


@dataclass(frozen=True, slots=True)
class RetrievalParts:
    """Everything of a checkpoint but its weights."""

    config: Any
    tokenizer: Any
    image_processor: BlipImageProcessorPil
    placement: Placement


@dataclass(frozen=True, slots=True)
class LoadedRetrieval:
    """Everything of one matching checkpoint that requests need; read-only after loading.

    Attributes:
        name: its public name (never a path).
        model: a `Blip2ForImageTextRetrieval`, on its device, in evaluation mode, without gradients.
        fingerprint: 32 bytes that change with the weights, see `files.fingerprint`.
        shares_tower: its tower is the caption model's, the same tensors.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: BlipImageProcessorPil
    placement: Placement
    fingerprint: bytes
    shares_tower: bool = False

    @property
    def image_size(self) -> int:
        """Side of the square that pictures are resized to, in pixels."""
        return int(self.image_processor.size["height"])

    @property
    def max_text_tokens(self) -> int:
        """Most tokens of a text, special tokens included: the positions of the Q-Former."""
        return int(self.model.config.qformer_config.max_position_embeddings)

    @property
    def vector_width(self) -> int:
        """Numbers in a unit vector."""
        return int(self.model.config.image_text_hidden_size)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode a text with its special tokens; those spelled out in `text` stay plain text."""
        return tuple(self.tokenizer(text, split_special_tokens=True)["input_ids"])


def check_retrieval_model(settings: Settings, folder: Path) -> RetrievalParts:
    """Read everything but the weights.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine, or parts of it are missing or damaged.
    """
    quieten_transformers()
    name = settings.spelled("retrieval_model")
    config, num_parameters = check_config(name, RETRIEVAL, folder)
    with one_line(f"{name}: the tokenizer cannot be read"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    with one_line(f"{name}: the settings of the image processor cannot be read"):
        image_processor = BlipImageProcessorPil.from_pretrained(folder)
        check_image_size(name, config, image_processor)
    # These heads are small, and quantised towers would no longer be the same.
    unquantised = settings.model_copy(update={"quantize": "none", "device_map": "off"})
    placement = choose_placement(unquantised, RETRIEVAL, num_parameters)
    return RetrievalParts(config, tokenizer, image_processor, placement)


def load_retrieval_model(settings: Settings, folder: Path, beside: LoadedModel | None) -> LoadedRetrieval:
    """Read the checkpoint in `folder` (see `locate.locate_retrieval_checkpoint`) onto its device.

    `beside` is the caption model, whose device and dtype it takes and whose tower it uses if the weights are equal. To
    compare them both are loaded for a moment.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine, or parts of it are missing or damaged.
    """
    parts = check_retrieval_model(settings, folder)
    placement = _placed_beside(parts.placement, beside)
    loaded = LoadedRetrieval(
        name=public_name(settings.retrieval_model),
        model=load_weights(folder, placement, RETRIEVAL),
        tokenizer=parts.tokenizer,
        image_processor=parts.image_processor,
        placement=placement,
        fingerprint=fingerprint(folder, settings.spelled("retrieval_model")),
        shares_tower=False,
    )
    shares = beside is not None and _share_tower(beside, loaded)
    tower = "; its tower is the caption model's, kept once" if shares else ""
    logger.info("%s on %s%s", settings.retrieval_model, placement.reason, tower)
    return replace(loaded, shares_tower=shares)


def _placed_beside(alone: Placement, beside: LoadedModel | None) -> Placement:
    if beside is None:
        return alone
    device, dtype = beside.placement.device, beside.placement.dtype
    return Placement(device, dtype, f"{device}; {dtype}: as the caption model".replace("torch.", ""))


def _share_tower(caption: LoadedModel, retrieval: LoadedRetrieval) -> bool:
    """Let the matching model use the caption model's tower if pixels and weights are the same, but for its last norm.

    The last norms differ between published checkpoints.
    """
    if _pixels_of(caption.image_processor) != _pixels_of(retrieval.image_processor):
        return False
    ours, theirs = (loaded.model.vision_model.state_dict() for loaded in (caption, retrieval))
    names = [name for name in theirs if not name.startswith(_LAST_NORM)]
    if not all(name in ours and _are_equal(ours[name], theirs[name]) for name in names):
        return False
    tower, shared = retrieval.model.vision_model, caption.model.vision_model
    tower.embeddings, tower.encoder = shared.embeddings, shared.encoder
    return True


def _are_equal(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    is_alike = ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.device == theirs.device
    return is_alike and torch.equal(ours, theirs)


def _pixels_of(image_processor: BlipImageProcessorPil) -> tuple[Any, ...]:
    """All that decides how a picture becomes pixels."""
    size = image_processor.size["height"], image_processor.size["width"], image_processor.resample
    return (*size, *image_processor.image_mean, *image_processor.image_std)
