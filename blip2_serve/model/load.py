"""Load a checkpoint: weights, tokenizer, image processor, on the chosen device in the chosen dtype."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.utils import logging as transformers_logging

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import Architecture, Family
from blip2_serve.model.adapter.files import Adapter, locate_adapter
from blip2_serve.model.calibration import FILE as CONFIDENCE_FILE
from blip2_serve.model.calibration import Calibration
from blip2_serve.model.calibration import read as read_calibration
from blip2_serve.model.checkpoints import Checkpoint, find_known, public_name
from blip2_serve.model.device import Placement, choose_placement
from blip2_serve.model.files.fingerprint import fingerprint
from blip2_serve.model.files.headers import count_parameters, read_headers
from blip2_serve.model.files.reading import INSTRUCTION_TOKENIZER
from blip2_serve.model.foreign.image_token import name_image_token
from blip2_serve.model.locate import read_family
from blip2_serve.model.quantization import check_quantization
from blip2_serve.model.weights import check_weights, empty_model, load_weights, model_class, plan_adapter

logger = logging.getLogger(__name__)

# BLIP-2's published demos and LAVIS keep everything the language model sees within this.
MAX_CONTEXT_TOKENS = 512
_LONGEST_CAUSE = 300  # characters of another library's message


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of a checkpoint but its weights; `known` adds what its name says beyond its config."""

    family: Family
    config: Any
    tokenizer: Any
    instruction_tokenizer: Any
    image_processor: BlipImageProcessorPil
    known: Checkpoint | None
    placement: Placement
    calibration: Calibration | None
    adapter: Adapter | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything of one checkpoint that requests need; read-only after loading.

    Attributes:
        name: its public name (never a path), and behind a plus sign that of the adapter that is merged into it.
        model: an instance of `family.architecture`, on its device, in evaluation mode, without gradients.
        instruction_tokenizer: the Q-Former's, None where it reads no prompt.
        caption_prompt: the checkpoint's own prompt for captions, often "".
        max_context_tokens: image tokens, prompt and new tokens together.
        fingerprint: 32 bytes that change with the weights, see `files.fingerprint`, and with the adapter.
        calibration: how often captions are right; None where nobody has measured.
    """

    name: str
    family: Family
    model: Any
    tokenizer: Any
    instruction_tokenizer: Any
    image_processor: BlipImageProcessorPil
    caption_prompt: str
    max_context_tokens: int
    placement: Placement
    fingerprint: bytes
    calibration: Calibration | None = None

    @property
    def num_query_tokens(self) -> int:
        """Image tokens that one picture takes in the language model's context."""
        return int(self.model.config.num_query_tokens)

    @property
    def image_size(self) -> int:
        """Side of the square that pictures are resized to, in pixels."""
        return int(self.image_processor.size["height"])

    def encode_text(self, text: str) -> list[int]:
        """Encode a prompt, with the tokenizer's special tokens; those spelled out in `text` stay plain text."""
        ids: list[int] = self.tokenizer(text, split_special_tokens=True)["input_ids"]
        return ids

    def encode_instruction(self, text: str) -> tuple[int, ...]:
        """Encode a prompt for a Q-Former that reads it, cut to its positions; empty for any other Q-Former."""
        if self.instruction_tokenizer is None:
            return ()
        longest = self.model.config.qformer_config.max_position_embeddings
        encoded = self.instruction_tokenizer(text, split_special_tokens=True, truncation=True, max_length=longest)
        return tuple(encoded["input_ids"])

    def decode_text(self, ids: list[int]) -> str:
        """Decode generated ids, without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def check_model(settings: Settings, folder: Path) -> Parts:
    """Read everything but the weights.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine, or parts of it are missing or damaged.
    """
    quieten_transformers()
    name = settings.spelled("model")
    family = read_family(folder, name)
    config, num_parameters = check_config(name, family, folder)
    with one_line(f"{name}: the tokenizer cannot be read"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        instruction_tokenizer = _instruction_tokenizer(family, folder)
        name_image_token(config, tokenizer)
    with one_line(f"{name}: the settings of the image processor cannot be read"):
        image_processor = BlipImageProcessorPil.from_pretrained(folder)
        check_image_size(name, config, image_processor)
    check_quantization(settings, family, config.text_config)
    known = find_known(settings.model, family, config.vision_config.image_size)
    placement = choose_placement(settings, family, num_parameters)
    adapter = _checked_adapter(settings, family, config)
    calibration = _read_calibration(settings, adapter.folder if adapter else folder)
    return Parts(
        family, config, tokenizer, instruction_tokenizer, image_processor, known, placement, calibration, adapter
    )


def load_model(settings: Settings, folder: Path) -> LoadedModel:
    """Read the checkpoint in `folder` (see `locate.locate_checkpoint`) onto its device.

    Raises:
        StartupError: the settings do not fit the checkpoint or the machine, or parts of it are missing or damaged.
    """
    parts = check_model(settings, folder)
    adapter, name = parts.adapter, public_name(settings.model)
    logger.info("%s%s on %s", settings.model, f" with {adapter.name}" if adapter else "", parts.placement.reason)
    fingerprint_of_base = fingerprint(folder, settings.spelled("model"), settings.quantize)
    model = load_weights(folder, parts.placement, parts.family, adapter)
    model.config.image_token_index = parts.config.image_token_index
    return LoadedModel(
        name=f"{name}+{adapter.name}" if adapter else name,
        family=parts.family,
        model=model,
        tokenizer=parts.tokenizer,
        instruction_tokenizer=parts.instruction_tokenizer,
        image_processor=parts.image_processor,
        caption_prompt=(parts.known or parts.family).caption_prompt,
        max_context_tokens=_context_size(parts.config),
        placement=parts.placement,
        fingerprint=adapter.fingerprint(fingerprint_of_base) if adapter else fingerprint_of_base,
        calibration=parts.calibration,
    )


def _checked_adapter(settings: Settings, family: Family, config: Any) -> Adapter | None:
    adapter = locate_adapter(settings)
    if adapter is not None:
        with one_line(f"{adapter.spelled} cannot be merged"):
            plan_adapter(adapter, empty_model(family, config))
    return adapter


def _read_calibration(settings: Settings, folder: Path) -> Calibration | None:
    """Read BLIP2_CONFIDENCE_FILE, or else the file that the folder of the checkpoint or of its adapter may have."""
    if settings.confidence_file is not None:
        return read_calibration(Path(settings.confidence_file))
    return read_calibration(folder / CONFIDENCE_FILE) if (folder / CONFIDENCE_FILE).is_file() else None


def check_config(name: str, family: Architecture, folder: Path) -> tuple[Any, int]:
    """Return the config, and the number of parameters in the files; `name` is the setting, for messages.

    Raises:
        StartupError: config and weights do not fit each other, or are damaged.
    """
    with one_line(f"{name}: config.json does not describe a BLIP-2"):
        config = model_class(family).config_class.from_pretrained(folder)
        headers = read_headers(folder, name)
        check_weights(name, empty_model(family, config), headers)
    return config, count_parameters(folder, name)


def _instruction_tokenizer(family: Family, folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder / INSTRUCTION_TOKENIZER) if family.reads_instruction else None


@contextmanager
def one_line(what_failed: str) -> Iterator[None]:
    """Turn anything transformers raises on damaged files, pydantic's errors and KeyErrors included, into one line."""
    try:
        yield
    except StartupError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:_LONGEST_CAUSE]
        raise StartupError(f"{what_failed} ({type(error).__name__}: {cause}).") from error


def check_image_size(name: str, config: Any, image_processor: BlipImageProcessorPil) -> None:
    """Raise StartupError unless the processor makes pictures of the size that the model takes."""
    side, size = config.vision_config.image_size, image_processor.size
    if (size["height"], size["width"]) != (side, side):
        raise StartupError(
            f"{name}: the image processor makes pictures of {size['width']} x {size['height']} pixels and the model"
            f" takes {side} x {side}: the files are of two checkpoints, download them again."
        )


def _context_size(config: Any) -> int:
    positions = getattr(config.text_config, "max_position_embeddings", MAX_CONTEXT_TOKENS)
    return min(MAX_CONTEXT_TOKENS, int(positions))


def quieten_transformers() -> None:
    """Keep transformers' warnings and progress bars out of the log."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
