"""A matching checkpoint is guarded as the caption model is, and shares its tower where it is the same."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.locate import locate_retrieval_checkpoint
from blip2_serve.model.retrieval.load import LoadedRetrieval, check_retrieval_model, load_retrieval_model


@pytest.fixture
def checkpoint(tiny_retrieval_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy for tests to damage."""
    return Path(shutil.copytree(tiny_retrieval_checkpoint, tmp_path / "copy"))


@pytest.fixture
def caption_model(tiny_checkpoints: dict[str, Path]) -> LoadedModel:
    folder = tiny_checkpoints["opt"]
    return load_model(Settings(model=str(folder), device="cpu"), folder)


def load(folder: Path, beside: LoadedModel | None) -> LoadedRetrieval:
    settings = Settings(retrieval_model=str(folder), device="cpu")
    return load_retrieval_model(settings, locate_retrieval_checkpoint(settings), beside)


def rewrite(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    weights = load_file(folder / "model.safetensors") | changes
    kept = {name: weight for name, weight in weights.items() if weight is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(folder: Path) -> str:
    settings = Settings(retrieval_model=str(folder), device="cpu")
    with pytest.raises(StartupError) as caught:
        check_retrieval_model(settings, locate_retrieval_checkpoint(settings))
    assert "\n" not in caught.value.message
    assert "BLIP2_RETRIEVAL_MODEL" in caught.value.message
    return caught.value.message


def test_an_equal_tower_is_kept_once(tiny_retrieval_checkpoint: Path, caption_model: LoadedModel) -> None:
    loaded = load(tiny_retrieval_checkpoint, caption_model)
    assert loaded.shares_tower
    ours, theirs = (dict(each.model.vision_model.named_parameters()) for each in (loaded, caption_model))
    same = {name for name in ours if ours[name] is theirs[name]}
    assert ours.keys() - same == {"post_layernorm.weight", "post_layernorm.bias"}


def test_a_tower_that_differs_in_one_number_is_kept_beside(checkpoint: Path, caption_model: LoadedModel) -> None:
    name = "vision_model.encoder.layers.1.mlp.fc2.bias"
    bias = load_file(checkpoint / "model.safetensors")[name].clone()
    bias[-1] += 1e-3
    rewrite(checkpoint, {name: bias})
    assert not load(checkpoint, caption_model).shares_tower


def test_a_model_alone_has_its_own_tower(tiny_retrieval_checkpoint: Path) -> None:
    assert not load(tiny_retrieval_checkpoint, None).shares_tower


def test_missing_weights_are_refused(checkpoint: Path) -> None:
    rewrite(checkpoint, {"itm_head.weight": None})
    assert "weights are missing (1, the first is itm_head.weight)" in refusal(checkpoint)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json"])
def test_half_a_folder_is_refused(checkpoint: Path, missing: str) -> None:
    (checkpoint / missing).unlink()
    assert "incomplete" in refusal(checkpoint)


def test_a_caption_model_is_refused(tiny_checkpoints: dict[str, Path]) -> None:
    assert "does not match images with texts" in refusal(tiny_checkpoints["opt"])


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert "is no folder" in refusal(tmp_path / "nowhere")
