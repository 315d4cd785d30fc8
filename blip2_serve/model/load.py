"""Load a checkpoint once: weights, tokenizer, image processor, on the chosen device in the chosen dtype."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import rename_source_key
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip_2.configuration_blip_2 import Blip2Config
from transformers.models.blip_2.modeling_blip_2 import Blip2ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.checkpoints import Checkpoint, find_known, public_name
from blip2_serve.model.device import Placement, choose_placement
from blip2_serve.model.locate import Shape, check_cache_folder, fingerprint, locate_checkpoint, read_headers
from blip2_serve.model.quantization import check_quantization, quantization_config
from blip2_serve.prompts import Family

logger = logging.getLogger(__name__)

# BLIP-2's published demos and LAVIS keep everything the language model sees within this.
MAX_CONTEXT_TOKENS = 512
_LONGEST_CAUSE = 300  # characters of another library's message


@dataclass(frozen=True, slots=True)
class Parts:
    """All of a checkpoint but its weights; `known` is what its name says beyond its config."""

    config: Blip2Config
    tokenizer: Any
    image_processor: BlipImageProcessorPil
    known: Checkpoint | None
    placement: Placement


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything of one checkpoint that requests need; read-only after loading.

    Attributes:
        name: what the outside may know it by (never a path).
        model: on its device, in evaluation mode, without gradients.
        caption_prompt: the checkpoint's own prompt for captions, often "".
        max_context_tokens: image tokens, prompt and new tokens together.
        fingerprint: 32 bytes that change with the weights, see `locate.fingerprint`.
    """

    name: str
    family: Family
    model: Blip2ForConditionalGeneration
    tokenizer: Any
    image_processor: BlipImageProcessorPil
    caption_prompt: str
    max_context_tokens: int
    placement: Placement
    fingerprint: bytes

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


def check_start(settings: Settings) -> None:
    """Find out without reading weights whether the server could start.

    Raises:
        StartupError: it could not; the message is one line.
    """
    with _one_line(f"BLIP2_MODEL={settings.model!r} cannot be checked"):
        check_model(settings, locate_checkpoint(settings))
    check_cache_folder(settings.image_cache_dir)


def check_model(settings: Settings, folder: Path) -> Parts:
    """Read everything but the weights.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine, or parts of it are missing or damaged.
    """
    _quieten_transformers()
    name = f"BLIP2_MODEL={settings.model!r}:"
    config, num_parameters = _check_config(settings.model, folder)
    with _one_line(f"{name} the tokenizer cannot be read"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    with _one_line(f"{name} the settings of the image processor cannot be read"):
        image_processor = BlipImageProcessorPil.from_pretrained(folder)
        _check_image_size(name, config, image_processor)
    check_quantization(settings, config.text_config)
    known = find_known(settings.model, _family(config), config.vision_config.image_size)
    placement = choose_placement(settings, _family(config), num_parameters, known.gpu_dtype if known else None)
    return Parts(config, tokenizer, image_processor, known, placement)


def load_model(settings: Settings, folder: Path) -> LoadedModel:
    """Read the checkpoint in `folder` (see `locate.locate_checkpoint`) onto its device.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine, or parts of it are missing or damaged.
    """
    parts = check_model(settings, folder)
    logger.info("%s on %s", settings.model, parts.placement.reason)
    return LoadedModel(
        name=public_name(settings.model),
        family=_family(parts.config),
        model=_load_weights(folder, parts.placement, _family(parts.config)),
        tokenizer=parts.tokenizer,
        image_processor=parts.image_processor,
        caption_prompt=parts.known.caption_prompt if parts.known else "",
        max_context_tokens=_context_size(parts.config),
        placement=parts.placement,
        fingerprint=fingerprint(folder, settings.model, settings.quantize),
    )


def _check_config(model: str, folder: Path) -> tuple[Blip2Config, int]:
    """The config, and how many parameters the files hold."""
    with _one_line(f"BLIP2_MODEL={model!r}: config.json does not describe a BLIP-2"):
        config = Blip2Config.from_pretrained(folder)
        headers = read_headers(folder, model)
        _check_weights(model, config, headers)
    return config, sum(torch.Size(shape).numel() for shape in headers.values())


@contextmanager
def _one_line(what_failed: str) -> Iterator[None]:
    """Whatever transformers raises on damaged files, pydantic's errors and KeyErrors among it, in one line."""
    try:
        yield
    except StartupError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:_LONGEST_CAUSE]
        raise StartupError(f"{what_failed} ({type(error).__name__}: {cause}).") from error


def _check_image_size(name: str, config: Blip2Config, image_processor: BlipImageProcessorPil) -> None:
    side, size = config.vision_config.image_size, image_processor.size
    if (size["height"], size["width"]) != (side, side):
        raise StartupError(
            f"{name} the image processor makes pictures of {size['width']} x {size['height']} pixels and the model"
            f" takes {side} x {side}: the files are of two checkpoints, download them again."
        )


def _check_weights(model: str, config: Blip2Config, headers: dict[str, Shape]) -> None:
    """Compare names and shapes with those the config asks for: transformers would draw what is missing at random."""
    with torch.device("meta"):
        empty = Blip2ForConditionalGeneration(config)
    wanted = {name: tuple(weight.shape) for name, weight in empty.state_dict().items()}
    found = _as_loaded(empty, headers)
    tied: dict[str, str] = empty.all_tied_weights_keys
    sources = {tied.get(name, name) for name in found}  # of weights that are one, a file may hold any
    _refuse(model, "are missing", [name for name in wanted if tied.get(name, name) not in sources])
    _refuse(
        model,
        "have another shape than config.json says",
        [name for name in wanted if found.get(name, wanted[name]) != wanted[name]],
    )


def _as_loaded(empty: Blip2ForConditionalGeneration, headers: dict[str, Shape]) -> dict[str, Shape]:
    """The names under which transformers would load what the files hold; it knows some older spellings."""
    renamings = get_model_conversion_mapping(empty)
    return {rename_source_key(name, renamings, [])[0]: shape for name, shape in headers.items()}


def _refuse(model: str, what_is_wrong: str, names: list[str]) -> None:
    if names:
        raise StartupError(
            f"BLIP2_MODEL={model!r} cannot be served: weights {what_is_wrong} ({len(names)}, the first is {names[0]});"
            " download it again."
        )


def _load_weights(folder: Path, placement: Placement, family: Family) -> Blip2ForConditionalGeneration:
    placed = _placing(placement, family)
    try:
        model, report = Blip2ForConditionalGeneration.from_pretrained(
            folder,
            dtype=placement.dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **placed,
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise StartupError(f"the checkpoint in {folder.name!r} cannot be loaded: {error}") from error
    # `check_model` has looked already, with our own eyes; here transformers says what it made up.
    _refuse(folder.name, "are missing", sorted(report["missing_keys"]))
    if placement.device_map == "auto":
        _check_spread(folder.name, getattr(model, "hf_device_map", {"": model.device}))
    # What `device_map` has placed is not to be moved, packed numbers least of all.
    model = model if placed else model.to(placement.device)
    return model.eval().requires_grad_(False)


def _placing(placement: Placement, family: Family) -> dict[str, Any]:
    """What `from_pretrained` needs to place weights itself; nothing where they are moved afterwards."""
    spread = placement.device_map == "auto"
    device_map = {"device_map": "auto" if spread else {"": placement.device}}
    if placement.quantize == "none":
        return device_map if spread else {}
    return {"quantization_config": quantization_config(placement.quantize, family, placement.dtype), **device_map}


def _check_spread(model: str, places: Mapping[str, int | str | torch.device]) -> None:
    """Our decoders read weights where they lie: accelerate's way to keep some elsewhere until they are used is none."""
    left = [name for name, place in places.items() if str(place) in ("cpu", "disk")]
    if left:
        raise StartupError(
            f"the checkpoint in {model!r} does not fit on the CUDA devices (parts that are left over: {len(left)}, the"
            f" first is {left[0] or 'all of it'}): use more or larger ones, or BLIP2_QUANTIZE=int8 or int4."
        )
    if len({str(place) for name, place in places.items() if not name.startswith("language_model")}) > 1:
        raise StartupError(
            f"the checkpoint in {model!r} would have its vision tower and Q-Former on several devices, and they stay"
            " together: use larger devices, or BLIP2_QUANTIZE=int8 or int4."
        )


def _family(config: Blip2Config) -> Family:
    return "opt" if config.use_decoder_only_language_model else "t5"


def _context_size(config: Blip2Config) -> int:
    positions = getattr(config.text_config, "max_position_embeddings", MAX_CONTEXT_TOKENS)
    return min(MAX_CONTEXT_TOKENS, int(positions))


def _quieten_transformers() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
