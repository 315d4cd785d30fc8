"""An adapter's folder: its config, the names and shapes of its weights, its digest. Knows nothing of peft."""

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.adapter.mistaken import CONFIG
from blip2_serve.model.checkpoints import public_name
from blip2_serve.model.files.headers import Shape
from blip2_serve.model.locate import find_folder

WEIGHTS = "adapter_model.safetensors"
REQUIREMENTS = "requirements-adapter.txt"
_PICKLED = "adapter_model.bin"
_CONVERSION = (
    'python -c "import torch, safetensors.torch as s;'
    f" s.save_file(torch.load('{_PICKLED}', weights_only=True, map_location='cpu'), '{WEIGHTS}')\""
)
_SUGGESTION = "set BLIP2_ADAPTER to a folder with a LoRA adapter or to its hub id"


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's files.

    Attributes:
        spelled: the setting, for messages.
        name: its public name (never a path).
        config: what adapter_config.json says.
        shapes: of its weights, by their names in the file.
    """

    spelled: str
    name: str
    folder: Path
    config: dict[str, Any]
    shapes: dict[str, Shape]

    @property
    def weights(self) -> Path:
        """The file with its weights."""
        return self.folder / WEIGHTS

    def fingerprint(self, base: bytes) -> bytes:
        """Return 32 bytes that change with `base`, the base model's, and with the adapter's config and weights."""
        digest = hashlib.sha256(base + (self.folder / CONFIG).read_bytes())
        with self.weights.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.digest()


def locate_adapter(settings: Settings) -> Adapter | None:
    """Find the adapter of `settings`, downloaded if it is a hub id; None if there is none.

    Raises:
        StartupError: it cannot be found, is no LoRA adapter in safetensors, or peft is missing.
    """
    if settings.adapter is None:
        return None
    name = settings.spelled("adapter")
    folder = find_folder(settings, "adapter", "adapter_revision", _SUGGESTION, [CONFIG, WEIGHTS, "confidence.json"])
    config = _read_config(folder, name)
    shapes = _read_shapes(folder, name)
    if find_spec("peft") is None:
        raise StartupError(f"{name} needs peft: run `pip install -r {REQUIREMENTS}`, or unset BLIP2_ADAPTER.")
    return Adapter(name, public_name(str(settings.adapter)), folder, config, shapes)


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        found = "a whole checkpoint, for BLIP2_MODEL" if (folder / "config.json").is_file() else f"without {CONFIG}"
        raise StartupError(f"{name} is no adapter but {found}: {_SUGGESTION}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartupError(f"{name}: {CONFIG} cannot be read ({error}).") from None
    if not isinstance(config, dict):
        raise StartupError(f"{name}: {CONFIG} holds no JSON object.")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise StartupError(f"{name} is an adapter of the kind {str(kind)[:32]!r}: only LORA can be merged.")
    return config


def _read_shapes(folder: Path, name: str) -> dict[str, Shape]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise StartupError(
            f"{name} is incomplete: {WEIGHTS} is missing (only safetensors are read); download it again, or make it"
            f" from {_PICKLED} in the adapter's folder: {_CONVERSION}"
        )
    try:
        with safe_open(path, framework="pt") as weights:  # opening it compares the header with the file's length
            shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StartupError(f"{name}: {WEIGHTS} is cut short or damaged ({error}); download it again.") from None
    if not shapes:
        raise StartupError(f"{name}: {WEIGHTS} holds no weights; train and save the adapter again.")
    return shapes
