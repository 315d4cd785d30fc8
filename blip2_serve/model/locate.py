"""From `BLIP2_MODEL` to a complete local folder, or one line that says what was tried and what to set.

Faults of a checkpoint's files are found before a worker starts: `bentoml serve` would for ever restart a worker whose
`__init__` fails.
"""

import hashlib
import json
import math
import shlex
import tempfile
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
from blip2_serve.model.calibration import FILE as CONFIDENCE_FILE
from blip2_serve.model.checkpoints import BUNDLED, BUNDLED_MATCHING, CHECKPOINTS, hub_id, is_matching_only
from blip2_serve.model.foreign.lavis import WITHOUT_COUNTERPART

Shape = tuple[int, ...]

# safetensors only: other weight formats run code when they are read.
WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# transformers' folder for the tokenizer of a Q-Former that reads the prompt.
INSTRUCTION_TOKENIZER = "qformer_tokenizer"
_LAVIS_FILE = (
    "is a file of LAVIS's, which is not read: use the model's name (pretrain_opt2.7b, say), or convert your own with"
    " convert_blip_2_original_to_pytorch.py of transformers 4.45"
)
_LFS_POINTER = b"version https://git-lfs"
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
    folder = _find_folder(settings, "model", "revision", _SUGGESTION)
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
    if hub_id(settings.retrieval_model) in CHECKPOINTS:
        raise StartupError(f"{name} writes text: name it in BLIP2_MODEL instead, and {_MATCHING_SUGGESTION}.")
    folder = _find_folder(settings, "retrieval_model", "retrieval_revision", _MATCHING_SUGGESTION)
    config = read_json(folder / "config.json", name)
    if RETRIEVAL.architecture not in (config.get("architectures") or []):
        raise StartupError(f"{name} does not match images with texts; {_MATCHING_SUGGESTION}.")
    _check_files(folder, name, _MATCHING_SUGGESTION)
    return folder


def _find_folder(settings: Settings, field: str, revision_field: str, suggestion: str) -> Path:
    model, name = getattr(settings, field), settings.spelled(field)
    if model in (*BUNDLED, *BUNDLED_MATCHING):
        return settings.demo_folder / str(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _refuse_lavis_folder(folder, name)
    if folder.suffix == ".pth":
        raise StartupError(f"{name} {_LAVIS_FILE}.")
    if instead := WITHOUT_COUNTERPART.get(model):
        raise StartupError(f"{name} {instead}.")
    if folder.is_absolute() or model.startswith((".", "~")):
        raise StartupError(f"{name} is no folder: {suggestion}.")
    try:
        return _download(hub_id(model), getattr(settings, revision_field), f"BLIP2_{revision_field.upper()}")
    except StartupError as problem:
        raise StartupError(f"{name} {problem.message}; {suggestion}.") from None


def _refuse_lavis_folder(folder: Path, name: str) -> Path:
    found = sorted(folder.glob("*.pth"))
    if found and not (folder / "config.json").is_file():
        raise StartupError(f"{name}: {found[0].name} {_LAVIS_FILE}.")
    return folder


def _download(repo_id: str, revision: str | None, revision_name: str) -> Path:
    at = f" at revision {revision!r}" if revision else ""
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=WANTED_FILES, etag_timeout=5))
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
    config = read_json(folder / "config.json", name)
    kind = config.get("model_type")
    language_model = (config.get("text_config") or {}).get("model_type", "opt")
    if kind is None:
        raise StartupError(
            f"{name}: config.json has no model_type, so it is no checkpoint of transformers; {_SUGGESTION}."
        )
    if kind not in [family.model_type for family in FAMILIES]:
        raise StartupError(f"{name} is a {kind!r} checkpoint, not a BLIP-2 one; {_SUGGESTION}.")
    if RETRIEVAL.architecture in (config.get("architectures") or []):
        raise StartupError(f"{name} has no language model: it cannot caption; {_SUGGESTION}.")
    family = find_family(kind, language_model)
    if family is None:
        served = " and ".join(family.text_model_type.upper() for family in FAMILIES if family.model_type == kind)
        raise StartupError(f"{name} has a {language_model!r} language model; {served} ones are served.")
    return family


def _weight_files(folder: Path, name: str) -> list[Path]:
    return _indexed(folder, INDEX, name) or [folder / WEIGHTS]


def pickled_files(folder: Path, name: str) -> list[Path]:
    """Return the files of weights in the format that is not read here; empty if there are none.

    Raises:
        StartupError: their index is damaged or names a file that is not there.
    """
    indexed = _indexed(folder, _PICKLED_INDEX, name)
    for path in indexed:
        if not path.is_file():
            raise _incomplete(name, path.name)
    return indexed or [path for path in [folder / _PICKLED] if path.is_file()]


def _indexed(folder: Path, index: str, name: str) -> list[Path]:
    """Return the files that an index names; empty without one."""
    if not (folder / index).is_file():
        return []
    weight_map = read_json(folder / index, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise StartupError(f"{name}: {index} names no weights; download it again.")
    return [folder / Path(str(file)).name for file in sorted(set(weight_map.values()))]


def read_headers(folder: Path, name: str) -> dict[str, Shape]:
    """Return the names and shapes of all weights, reading only the files' headers.

    Raises:
        StartupError: a file is missing, cut short or damaged.
    """
    _refuse_other_formats(folder, name)
    shapes: dict[str, Shape] = {}
    for path in _weight_files(folder, name):
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
    for path in _weight_files(folder, name):
        about = path.stat()
        digest.update(f"{path.name} {about.st_size} {about.st_mtime_ns}".encode())
        with path.open("rb") as file:
            for start in range(0, about.st_size, max(_SAMPLE_BYTES, about.st_size // _SAMPLES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


def _refuse_other_formats(folder: Path, name: str) -> None:
    """Raise StartupError if the folder holds weights in other formats alone."""
    if any((folder / file).is_file() for file in (WEIGHTS, INDEX)):
        return
    if any((folder / file).is_file() for file in (_PICKLED, _PICKLED_INDEX)):
        raise StartupError(
            f"{name} has its weights in {_PICKLED}, a format that can run code when it is read: write them as"
            f" safetensors with `blip2-serve convert {shlex.quote(str(folder))}`."
        )


def _read_header(path: Path, name: str) -> dict[str, Shape]:
    if not path.is_file():
        raise _incomplete(name, path.name, "", " (only safetensors are read)")
    if _is_lfs_pointer(path):
        raise StartupError(f"{name}: {path.name} is a pointer of git-lfs, not the weights; run `git lfs pull` there.")
    try:
        with safe_open(path, framework="pt") as weights:  # opening it compares the header with the file's length
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StartupError(f"{name}: {path.name} is cut short or damaged ({error}); download it again.") from None


def _is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


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


def read_json(path: Path, name: str) -> dict[str, Any]:
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
