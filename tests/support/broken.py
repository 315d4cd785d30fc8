"""Folders that people point the server at and that cannot be served, each made from a whole tiny checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

WEIGHTS = "model.safetensors"


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def _with_config(**change: object) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config = {key: value for key, value in (config | change).items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))

    return rewrite


def _with_text(file: str, text: str) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        (folder / file).write_text(text)

    return rewrite


def pickle_weights(folder: Path, num_shards: int = 1) -> None:
    """Keep a checkpoint's weights in `pytorch_model.bin`, or in shards with an index, as old versions saved them."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    if num_shards == 1:
        torch.save(weights, folder / "pytorch_model.bin")
        return
    places = {}
    for number in range(num_shards):
        name = f"pytorch_model-{number + 1:05}-of-{num_shards:05}.bin"
        shard = dict(list(weights.items())[number::num_shards])
        torch.save(shard, folder / name)
        places |= dict.fromkeys(shard, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


def _cut_short(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def _with_lavis_file(folder: Path) -> None:
    _emptied(folder)
    torch.save({"model": {}}, folder / "blip2_pretrained.pth")


# What breaks a whole folder, and what its one line says.
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_emptied, "is incomplete: config.json is missing; download it again."),
    "no config": (_without("config.json"), "is incomplete: config.json is missing; download it again."),
    "config that is no JSON": (_with_text("config.json", "<html>"), "config.json cannot be read (Expecting value"),
    "config without a type": (_with_config(model_type=None), "has no model_type"),
    "BLIP": (_with_config(model_type="blip"), "is a 'blip' checkpoint, not a BLIP-2 one; set BLIP2_MODEL to"),
    "LLaVA": (_with_config(model_type="llava"), "is a 'llava' checkpoint, not a BLIP-2 one; set BLIP2_MODEL to"),
    "OPT alone": (_with_config(model_type="opt"), "is a 'opt' checkpoint, not a BLIP-2 one; set BLIP2_MODEL to"),
    "no weights": (_without(WEIGHTS), "is incomplete: model.safetensors is missing (only safetensors are read)"),
    "pickled weights": (pickle_weights, "as safetensors with `blip2-serve convert {}`."),
    "pickled shards": (lambda folder: pickle_weights(folder, 2), "as safetensors with `blip2-serve convert {}`."),
    "half the weights": (_cut_short, "model.safetensors is cut short or damaged ("),
    "pointer of git-lfs": (
        _with_text(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "model.safetensors is a pointer of git-lfs, not the weights; run `git lfs pull` there.",
    ),
    "missing shard": (
        _with_text(f"{WEIGHTS}.index.json", '{"weight_map": {"query_tokens": "model-00002-of-00002.safetensors"}}'),
        "is incomplete: model-00002-of-00002.safetensors is missing (only safetensors are read)",
    ),
    "no tokenizer": (_without("tokenizer.json"), "is incomplete: tokenizer.json is missing; download it again, or set"),
    "no processor": (_without("processor_config.json"), "preprocessor_config.json is missing; download it again, or"),
    "config of other sizes": (
        _with_config(num_query_tokens=7),
        "weights have another shape than config.json says (1, the first is query_tokens)",
    ),
    "file of LAVIS": (_with_lavis_file, "blip2_pretrained.pth is a file of LAVIS's, which is not read: use the"),
}


def break_folder(folder: Path, kind: str) -> str:
    """Break a whole folder; returns what its message has to say."""
    damage, said = BROKEN[kind]
    damage(folder)
    return said.replace("{}", str(folder))
