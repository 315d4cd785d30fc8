"""From `BLIP2_MODEL` to a complete local folder, or one line that says what was tried and what to set.

Faults of a checkpoint's files are found before a worker starts: `bentoml serve` would for ever restart a worker whose
`__init__` fails.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import FAMILIES, RETRIEVAL, Family, find_family
from blip2_serve.model.adapter.mistaken import refuse_adapter
from blip2_serve.model.calibration import FILE as CONFIDENCE_FILE
from blip2_serve.model.checkpoints import BUNDLED, BUNDLED_MATCHING, is_matching_only

Shape = tuple[int, ...]

# safetensors only: other weight formats run code when they are read.
_WANTED_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
# transformers' folder for the tokenizer of a Q-Former that reads the prompt.
INSTRUCTION_TOKENIZER = "qformer_tokenizer"
_SAMPLES, _SAMPLE_BYTES = 256, 4096
_SUGGESTION = "set BLIP2_MODEL to demo or demo-t5, to a folder or to a hub id such as Salesforce/blip2-opt-2.7b"
_MATCHING_SUGGESTION = (
    "set BLIP2_RETRIEVAL_MODEL to demo-itm, to a folder or to a hub id such as Salesforce/blip2-itm-vit-g"
)


def locate_checkpoint(settings: Settings) -> Path:
    """Return the local folder of `settings.model`, downloaded if it is a hub id, and checked to be whole.

    Raises:
        StartupError: the model cannot be found or served.
    """
    name = settings.spelled("model")
    if is_matching_only(settings.model):
        raise StartupError(
            f"{name} matches images with texts and has no language model: it cannot caption or answer; name it in"
            f" BLIP2_RETRIEVAL_MODEL instead, and {_SUGGESTION}, or to none."
        )
    folder = find_folder(settings, "model", "revision", _SUGGESTION)
    if settings.adapter is None or not (folder / "config.json").is_file():
        refuse_adapter(folder, name, "set BLIP2_ADAPTER to it, and BLIP2_MODEL to the model that it was made for")
    family = read_family(folder, name)
    _check_files(folder, name, _SUGGESTION)
    if family.reads_instruction and not any((folder / INSTRUCTION_TOKENIZER).glob("*.json")):
        raise _incomplete(name, INSTRUCTION_TOKENIZER, _SUGGESTION)
    return folder


def locate_retrieval_checkpoint(settings: Settings) -> Path:
    """Return the local folder of `settings.retrieval_model`, as `locate_checkpoint` does that of `settings.model`.

    Raises:
        StartupError: the model cannot be found or served.
    """
    name = settings.spelled("retrieval_model")
    folder = find_folder(settings, "retrieval_model", "retrieval_revision", _MATCHING_SUGGESTION)
    refuse_adapter(folder, name, f"adapters are merged into BLIP2_MODEL alone; {_MATCHING_SUGGESTION}")
    config = _read_json(folder / "config.json", name)
    if RETRIEVAL.architecture not in (config.get("architectures") or []):
        raise StartupError(f"{name} does not match images with texts; {_MATCHING_SUGGESTION}.")
    _check_files(folder, name, _MATCHING_SUGGESTION)
    return folder


def find_folder(
    settings: Settings, field: str, revision_field: str, suggestion: str, wanted_files: Sequence[str] = _WANTED_FILES
) -> Path:
    """Return the local folder that the setting `field` names, downloaded if it is a hub id.

    Raises:
        StartupError: it is neither; `suggestion` says what to set.
    """
    model, name = getattr(settings, field), settings.spelled(field)
    if model in (*BUNDLED, *BUNDLED_MATCHING):
        return settings.demo_folder / str(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith((".", "~")):
        raise StartupError(f"{name} is no folder: {suggestion}.")
    try:
        return _download(model, getattr(settings, revision_field), f"BLIP2_{revision_field.upper()}", wanted_files)
    except StartupError as problem:
        raise StartupError(f"{name} {problem.message}; {suggestion}.") from None


def _download(repo_id: str, revision: str | None, revision_name: str, wanted_files: Sequence[str]) -> Path:
    at = f" at revision {revision!r}" if revision else ""
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(wanted_files), etag_timeout=5))
    except HFValidationError:
        problem = "is neither a folder nor a hub id"
    except GatedRepoError:
        problem = "is gated on the hub: accept its terms there and set HF_TOKEN"
    except RepositoryNotFoundError:
        problem = "is not on the hub, or is private (then set HF_TOKEN)"
    except RevisionNotFoundError:
        problem = f"has no such revision on the hub{at}: check {revision_name}"
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        problem = f"is not in the local cache{at} and the hub cannot be reached ({type(error).__name__})"
    raise StartupError(problem)


def _check_files(folder: Path, name: str, suggestion: str) -> None:
    """Read every header of the weights and none of their values.

    Raises:
        StartupError: a file is missing or cut short.
    """
    read_headers(folder, name)
    if not any((folder / file).is_file() for file in ("processor_config.json", "preprocessor_config.json")):
        raise _incomplete(name, "preprocessor_config.json", suggestion)
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")):
        raise _incomplete(name, "tokenizer.json", suggestion)


def read_family(folder: Path, name: str) -> Family:
    """Return the family that the config names; `name` is the setting that names the checkpoint, for messages.

    Raises:
        StartupError: the config is missing or damaged, or names no family that is served.
    """
    config = _read_json(folder / "config.json", name)
    kind = config.get("model_type")
    language_model = (config.get("text_config") or {}).get("model_type", "opt")
    if kind not in [family.model_type for family in FAMILIES]:
        raise StartupError(f"{name} is a {kind!r} checkpoint, not a BLIP-2 one; {_SUGGESTION}.")
    if RETRIEVAL.architecture in (config.get("architectures") or []):
        raise StartupError(f"{name} has no language model: it cannot caption; {_SUGGESTION}.")
    family = find_family(kind, language_model)
    if family is None:
        served = " and ".join(family.text_model_type.upper() for family in FAMILIES if family.model_type == kind)
        raise StartupError(f"{name} has a {language_model!r} language model; {served} ones are served.")
    if config.get("image_token_index") is None:
        raise StartupError(
            f"{name} is an old conversion without image_token_index in its config.json:"
            " download the current revision of the checkpoint."
        )
    return family


def weight_files(folder: Path, name: str) -> list[Path]:
    """Return the files that hold the checkpoint's weights, which need not exist.

    Raises:
        StartupError: the weights' index is damaged.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json(index, name).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise StartupError(f"{name}: {index.name} names no weights; download it again.")
        return [folder / str(file) for file in sorted(set(weight_map.values()))]
    return [folder / "model.safetensors"]


def read_headers(folder: Path, name: str) -> dict[str, Shape]:
    """Return the names and shapes of all weights, reading only the files' headers.

    Raises:
        StartupError: a file is missing, cut short or damaged.
    """
    shapes: dict[str, Shape] = {}
    for path in weight_files(folder, name):
        shapes |= _read_header(path, name)
    return shapes


def count_parameters(folder: Path, name: str) -> int:
    """Count the numbers in the checkpoint's weights, as `read_headers` finds them."""
    return sum(math.prod(shape) for shape in read_headers(folder, name).values())


def fingerprint(folder: Path, name: str, quantize: str = "none") -> bytes:
    """Return 32 bytes that change with the checkpoint's files and with `quantize`, which makes another model of them.

    Covers all of the JSON files; of the weights the size, the modification time and samples from header to end, as an
    image build or a copy may give another file of the same model the same size and time.

    Raises:
        StartupError: the weights' index is damaged.
    """
    digest = hashlib.sha256(b"" if quantize == "none" else quantize.encode())
    described = [path for path in sorted(folder.glob("*.json")) if path.name != CONFIDENCE_FILE]
    for path in [*described, *sorted((folder / INSTRUCTION_TOKENIZER).glob("*.json"))]:
        digest.update(path.name.encode() + path.read_bytes())
    for path in weight_files(folder, name):
        about = path.stat()
        digest.update(f"{path.name} {about.st_size} {about.st_mtime_ns}".encode())
        with path.open("rb") as file:
            for start in range(0, about.st_size, max(_SAMPLE_BYTES, about.st_size // _SAMPLES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


def _read_header(path: Path, name: str) -> dict[str, Shape]:
    if not path.is_file():
        raise _incomplete(name, path.name, "", " (only safetensors are read)")
    try:
        with safe_open(path, framework="pt") as weights:  # opening it compares the header with the file's length
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StartupError(f"{name}: {path.name} is cut short or damaged ({error}); download it again.") from None


def check_cache_folder(folder: str | None) -> None:
    """Make the folder for image tokens and write to it, as the server will do.

    Raises:
        StartupError: the folder cannot be made or written to.
    """
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"rows")
    except OSError as error:
        raise StartupError(
            f"BLIP2_IMAGE_CACHE_DIR={folder!r} cannot be written to ({error.strerror}): set a folder that can, or none."
        ) from None


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _incomplete(name, path.name) from None
    except (OSError, ValueError) as error:
        raise StartupError(f"{name}: {path.name} cannot be read ({error}).") from None
    if not isinstance(content, dict):
        raise StartupError(f"{name}: {path.name} holds no JSON object.")
    return content


def _incomplete(name: str, missing: str, suggestion: str = "", hint: str = "") -> StartupError:
    instead = f", or {suggestion}" if suggestion else ""
    return StartupError(f"{name} is incomplete: {missing} is missing{hint}; download it again{instead}.")
