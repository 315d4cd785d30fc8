"""A merged adapter is what peft makes of it, bit by bit, and answers as the adapter did in training."""

import asyncio
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.calibration import Calibration
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.models import load_models
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks
from support.adapters import (
    load_with,
    merged_by_peft,
    reconfigure,
    save_adapter,
    settings_with,
    transformers_model,
    unmerged,
)
from support.tiny import save_tiny_checkpoint
from training.pictures.held_out import standard

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "opt's attention": ("opt", {"target_modules": ["q_proj", "v_proj"]}),
    "t5's attention, rslora": ("t5", {"target_modules": ["q", "v"], "use_rslora": True}),
    "instructblip's attention": ("instructblip", {"target_modules": ["q", "v"]}),
    "tower, qformer and projection, dora": (
        "instructblip",
        {"target_modules": ["qkv", "fc1", "query", "dense", "language_projection"], "use_dora": True},
    ),
    "patches, a convolution": ("opt", {"target_modules": ["patch_embedding"]}),
    "every linear layer": ("opt", {"target_modules": "all-linear"}),
    "a regular expression": ("t5", {"target_modules": r".*language_model.*\.(q|wo)"}),
    "layers saved whole, biases": (
        "opt",
        {"target_modules": ["q_proj"], "modules_to_save": ["language_projection"], "bias": "all"},
    ),
    "ranks of their own, biases of lora": (
        "opt",
        {
            "target_modules": ["q_proj", "fc1"],
            "lora_bias": True,
            "rank_pattern": {"fc1": 3},
            "alpha_pattern": {"q_proj": 5},
        },
    ),
    "a head saved whole": ("t5", {"target_modules": ["q"], "modules_to_save": ["lm_head"]}),
}
# peft's merge changes both of two tied weights, although in training they differed.
TIED: dict[str, tuple[str, dict[str, Any]]] = {
    "opt's words": ("opt", {"target_modules": ["embed_tokens"]}),
    "opt's head": ("opt", {"target_modules": ["lm_head"]}),
    "opt's head saved whole": ("opt", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "t5's words": ("t5", {"target_modules": ["shared"]}),
    "t5's words saved whole": ("t5", {"target_modules": ["q"], "modules_to_save": ["shared"]}),
}


@pytest.fixture
def made(request: pytest.FixtureRequest, tiny_checkpoints: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a base model and of an adapter named in the tables above."""
    family, lora = (ADAPTERS | TIED)[request.param]
    return tiny_checkpoints[family], save_adapter(tmp_path / "adapter", tiny_checkpoints[family], **lora)


def assert_equal(loaded: LoadedModel, expected: dict[str, torch.Tensor]) -> None:
    found = loaded.model.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("made", ADAPTERS, indirect=True)
def test_weights_are_those_of_merge_and_unload(made: tuple[Path, Path]) -> None:
    base, adapter = made
    expected = merged_by_peft(base, adapter).state_dict()
    assert any(
        not torch.equal(weight, expected[name]) for name, weight in transformers_model(base).state_dict().items()
    )
    assert_equal(load_with(base, adapter), expected)


@pytest.mark.parametrize("made", ADAPTERS | TIED, indirect=True)
def test_answers_are_those_of_the_adapter_that_is_not_merged(made: tuple[Path, Path]) -> None:
    base, adapter = made
    loaded, options, picture = load_with(base, adapter), DecodingOptions(max_new_tokens=12, num_beams=3), standard(0)[1]
    ids, instruction = loaded.encode_text("a"), loaded.encode_instruction("a")
    expected = Reference(unmerged(loaded, base, adapter)).generate(picture, ids, options, instruction)
    plain = Reference(load_model(Settings(model=str(base), device="cpu"), base))
    assert plain.generate(picture, ids, options, instruction).ids != expected.ids
    assert Reference(loaded).generate(picture, ids, options, instruction).ids == expected.ids
    assert (
        caption(loaded, settings_with(base, adapter), options)
        == loaded.decode_text([*(ids if loaded.family.decoder_only else ()), *expected.ids]).strip()
    )


def caption(loaded: LoadedModel, settings: Settings, options: DecodingOptions) -> str:
    tasks, png = Tasks(loaded, settings), io.BytesIO()
    standard(0)[1].save(png, "PNG")
    try:
        return asyncio.run(tasks.caption(Upload(png.getvalue()), "a", options)).text
    finally:
        tasks.close()


def test_numbers_are_rounded_once_after_merging(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_checkpoints["opt"]
    adapter = save_adapter(tmp_path / "adapter", base, target_modules="all-linear")
    expected = merged_by_peft(base, adapter).to(torch.bfloat16).state_dict()
    assert_equal(load_with(base, adapter, dtype="bfloat16"), expected)


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_layers_are_packed_after_merging(bits: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 128}
    base = save_tiny_checkpoint(tmp_path / "base", "opt", **sizes)
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=["q_proj", "fc2", "language_projection"])
    whole = Path(shutil.copytree(base, tmp_path / "whole"))
    merged_by_peft(base, adapter).save_pretrained(whole)
    expected = load_model(Settings(model=str(whole), device="cpu", quantize=bits), whole)
    assert_equal(load_with(base, adapter, quantize=bits), expected.model.state_dict())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_an_adapter_of_the_language_model_alone_fits(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_checkpoints["opt"]
    model = transformers_model(base)
    tuned = get_peft_model(model.language_model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    expected = tuned.merge_and_unload().state_dict()
    found = load_with(base, tmp_path / "adapter").model.language_model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_names_of_older_versions_fit(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_checkpoints["opt"]
    lora = {"target_modules": ["q_proj"], "modules_to_save": ["LayerNorm"]}
    adapter = save_adapter(tmp_path / "adapter", base, **lora)
    expected = merged_by_peft(base, adapter).state_dict()
    file = adapter / "adapter_model.safetensors"
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): weight for name, weight in load_file(file).items()}
    assert any("gamma" in name for name in old)
    save_file({name.replace(".lora_A.", ".lora_A.default."): weight for name, weight in old.items()}, file)
    reconfigure(adapter, enable_lora=None, merge_weights=False)  # as peft 0.2 wrote
    assert_equal(load_with(base, adapter), expected)


def test_the_fingerprint_is_of_base_adapter_and_config(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_checkpoints["opt"]
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    first = load_with(base, adapter).fingerprint
    assert load_with(base, copy).fingerprint == first
    reconfigure(copy, lora_alpha=16)
    other = save_adapter(tmp_path / "other", base, target_modules=["v_proj"])
    alone = load_model(Settings(model=str(base), device="cpu"), base).fingerprint
    assert len({first, alone, load_with(base, copy).fingerprint, load_with(base, other).fingerprint}) == 4


def test_the_name_tells_the_adapter(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "my lora", tiny_checkpoints["opt"], target_modules=["q_proj"])
    assert load_with(tiny_checkpoints["opt"], adapter).name == "tiny-opt+my lora"


@pytest.mark.parametrize(("target", "shares"), [("q_proj", True), ("qkv", False)])
def test_the_tower_is_shared_with_a_matching_model_unless_the_adapter_changed_it(
    target: str, shares: bool, tiny_checkpoints: dict[str, Path], tiny_retrieval_checkpoint: Path, tmp_path: Path
) -> None:
    base = tiny_checkpoints["opt"]
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=[target])
    loaded = load_models(settings_with(base, adapter, retrieval_model=str(tiny_retrieval_checkpoint)))
    assert loaded.retrieval is not None
    assert loaded.retrieval.shares_tower is shares


def test_how_often_the_base_model_is_right_says_nothing_of_the_merged_one(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_checkpoints["opt"], tmp_path / "base"))
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    measured = Calibration(((-3.0, 0.2), (-1.0, 0.9)), 100)
    measured.write(base / "confidence.json")
    assert load_with(base, adapter).calibration is None
    measured.write(adapter / "confidence.json")
    assert load_with(base, adapter).calibration == measured
