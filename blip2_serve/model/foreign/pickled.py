"""Pickled weights (`pytorch_model.bin`) written anew as safetensors.

Pickles are read with torch's `weights_only`, which knows tensors and runs no code, and are mapped rather than read, so
that memory does not grow with the checkpoint. Files in torch's format from before 1.6 cannot be mapped.
"""

import json
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from blip2_serve.errors import StartupError
from blip2_serve.families import RETRIEVAL, Architecture
from blip2_serve.model.files.headers import INDEX, WEIGHTS, Shape, pickled_files
from blip2_serve.model.files.reading import INSTRUCTION_TOKENIZER, read_json
from blip2_serve.model.load import one_line
from blip2_serve.model.locate import WANTED_FILES, read_family
from blip2_serve.model.weights import check_weights, empty_model, model_class

SHARD_BYTES = 1 << 30
Report = Callable[[int, int], None]
Shard = dict[str, torch.Tensor]


def convert(folder: Path, out: Path, report: Report) -> list[str]:
    """Write the pickled weights of the checkpoint in `folder` as safetensors to `out`, and return the files' names.

    The pickled files are kept. `out` may be `folder`; if not, it gets the checkpoint's other files too. A file appears
    under its name when it is whole, and the one that makes the checkpoint complete is the last. `report` is told the
    bytes that are written and all of them, after each file.

    Raises:
        StartupError: there is nothing to convert, a file holds more than weights, or they are not those of the config.
    """
    sources = pickled_files(folder, str(folder))
    if not sources:
        raise StartupError(f"{folder} has no pytorch_model.bin: there is nothing to convert.")
    if any(out.glob("*.safetensors")):
        raise StartupError(f"{out} has safetensors already: there is nothing to convert.")
    with one_line(f"{folder} cannot be converted"):
        model = empty_model(*_described(folder))
        shards = [shard for source in sources for shard in _shards(_read(source), model.all_tied_weights_keys)]
        check_weights(str(folder), model, _shapes(shards))
        return _write(shards, folder, out, report)


def _described(folder: Path) -> tuple[Architecture, Any]:
    """The class that config.json names, and the config."""
    named = read_json(folder / "config.json", str(folder)).get("architectures") or []
    kind = RETRIEVAL if RETRIEVAL.architecture in named else read_family(folder, str(folder))
    return kind, model_class(kind).config_class.from_pretrained(folder)


def _read(source: Path) -> Shard:
    """Map a file's tensors.

    Raises:
        StartupError: it holds anything else, or is damaged.
    """
    try:
        content = _load(source)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"({found[1]}) " if found else ""
        raise StartupError(
            f"{source.name} holds more than weights {what}and is not read, as that could run code: take the checkpoint"
            " from someone you trust, in safetensors."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StartupError(f"{source.name} is cut short or damaged ({cause}); download it again.") from None
    if not isinstance(content, Mapping) or not all(isinstance(each, torch.Tensor) for each in content.values()):
        raise StartupError(f"{source.name} holds no table of weights by name: save it with `save_pretrained`.")
    stretched = next((key for key, each in content.items() if each.nbytes > each.untyped_storage().nbytes()), None)
    if stretched is not None:
        raise StartupError(
            f"{source.name}: {str(stretched)[:96]} is larger than the memory it has: save it whole again."
        )
    return dict(content)


def _load(source: Path) -> Any:
    with source.open("rb") as file:
        is_zip = file.read(2) == b"PK"  # torch's format since 1.6
    return torch.load(source, map_location="cpu", weights_only=True, mmap=is_zip)


def _shards(tensors: Shard, tied: Mapping[str, str]) -> Iterator[Shard]:
    """Split tensors into parts of `SHARD_BYTES`, without the names that the model ties to another of equal memory.

    These are the names that transformers leaves out, too, when it saves.
    """
    shard: Shard = {}
    for name, tensor in tensors.items():
        source = tensors.get(tied.get(name, ""))
        if source is not None and source.data_ptr() == tensor.data_ptr() and source.shape == tensor.shape:
            continue
        if shard and _size([shard]) + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = tensor
    if shard:
        yield shard


def _shapes(shards: list[Shard]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for shard in shards for name, tensor in shard.items()}


def _size(shards: list[Shard]) -> int:
    return sum(tensor.nbytes for shard in shards for tensor in shard.values())


def _write(shards: list[Shard], folder: Path, out: Path, report: Report) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=out) as name:
        work = Path(name)
        written = _write_shards(shards, work, report)
        if out.resolve() != folder.resolve():
            _copy_others(folder, work)
        # A folder is complete with its index, or with its config.
        for path in sorted(work.iterdir(), key=lambda path: ((INDEX, "config.json").count(path.name), path.name)):
            path.replace(out / path.name)
    return written


def _write_shards(shards: list[Shard], work: Path, report: Report) -> list[str]:
    count, total = len(shards), _size(shards)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    names = names if count > 1 else [WEIGHTS]
    for number, (shard, name) in enumerate(zip(shards, names, strict=True), 1):
        save_file(_unshared(shard), work / name, metadata={"format": "pt"})
        report(_size(shards[:number]), total)
    if count > 1:
        places = {key: name for shard, name in zip(shards, names, strict=True) for key in shard}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (work / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return names


def _unshared(shard: Shard) -> Shard:
    """Copy tensors that are of one memory, which a file of safetensors cannot say."""
    own: Shard = {}
    seen: set[int] = set()
    for name, tensor in shard.items():
        memory = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone().contiguous() if memory in seen else tensor.contiguous()
        seen.add(memory)
    return own


def _copy_others(folder: Path, work: Path) -> None:
    for pattern in WANTED_FILES:
        for path in folder.glob(pattern):
            if not path.name.startswith("pytorch_model"):
                shutil.copy2(path, work)
    if (folder / INSTRUCTION_TOKENIZER).is_dir():
        shutil.copytree(folder / INSTRUCTION_TOKENIZER, work / INSTRUCTION_TOKENIZER)
