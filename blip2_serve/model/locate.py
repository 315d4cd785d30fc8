"""From `BLIP2_MODEL` to a complete local folder, or one line that says what was tried and what to set.

Faults of a checkpoint's files are found before a worker starts: `bentoml serve` would for ever restart a worker whose
`__init__` fails.
"""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import FAMILIES, RETRIEVAL, Family, find_family
from blip2_serve.model.adapter.mistaken import refuse_adapter
from blip2_serve.model.checkpoints import BUNDLED, BUNDLED_MATCHING, CHECKPOINTS, hub_id, is_matching_only
from blip2_serve.model.files.headers import read_headers
from blip2_serve.model.files.reading import INSTRUCTION_TOKENIZER, incomplete, read_json
from blip2_serve.model.foreign.lavis import WITHOUT_COUNTERPART

# safetensors only: other weight formats run code when they are read.
WANTED_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_LAVIS_FILE = (
    "is a file of LAVIS's, which is not read: use the model's name (pretrain_opt2.7b, say), or convert your own with"
    " convert_blip_2_original_to_pytorch.py of transformers 4.45"
)
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
        raise incomplete(name, INSTRUCTION_TOKENIZER, _SUGGESTION)
    return folder


def locate_retrieval_checkpoint(settings: Settings) -> Path:
    """Return the local folder of `settings.retrieval_model`, as `locate_checkpoint` does that of `settings.model`.

    Raises:
        StartupError: the model cannot be found or served.
    """
    name = settings.spelled("retrieval_model")
    if hub_id(settings.retrieval_model) in CHECKPOINTS:
        raise StartupError(f"{name} writes text: name it in BLIP2_MODEL instead, and {_MATCHING_SUGGESTION}.")
    folder = find_folder(settings, "retrieval_model", "retrieval_revision", _MATCHING_SUGGESTION)
    refuse_adapter(folder, name, f"adapters are merged into BLIP2_MODEL alone; {_MATCHING_SUGGESTION}")
    config = read_json(folder / "config.json", name)
    if RETRIEVAL.architecture not in (config.get("architectures") or []):
        raise StartupError(f"{name} does not match images with texts; {_MATCHING_SUGGESTION}.")
    _check_files(folder, name, _MATCHING_SUGGESTION)
    return folder


def find_folder(
    settings: Settings, field: str, revision_field: str, suggestion: str, wanted_files: Sequence[str] = WANTED_FILES
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
        return _refuse_lavis_folder(folder, name)
    if folder.suffix == ".pth":
        raise StartupError(f"{name} {_LAVIS_FILE}.")
    if instead := WITHOUT_COUNTERPART.get(model):
        raise StartupError(f"{name} {instead}.")
    if folder.is_absolute() or model.startswith((".", "~")):
        raise StartupError(f"{name} is no folder: {suggestion}.")
    try:
        revision = getattr(settings, revision_field)
        return _download(hub_id(model), revision, f"BLIP2_{revision_field.upper()}", wanted_files)
    except StartupError as problem:
        raise StartupError(f"{name} {problem.message}; {suggestion}.") from None


def _refuse_lavis_folder(folder: Path, name: str) -> Path:
    found = sorted(folder.glob("*.pth"))
    if found and not (folder / "config.json").is_file():
        raise StartupError(f"{name}: {found[0].name} {_LAVIS_FILE}.")
    return folder


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
        raise incomplete(name, "preprocessor_config.json", suggestion)
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")):
        raise incomplete(name, "tokenizer.json", suggestion)


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
