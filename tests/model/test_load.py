"""A checkpoint that loads is whole: nothing that it lacks is made up."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.files.fingerprint import fingerprint
from blip2_serve.model.load import check_model, load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.model.models import check_start

FAMILIES = ("opt", "t5")


@pytest.fixture(params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tiny_checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy for tests to damage."""
    return Path(shutil.copytree(tiny_checkpoints[request.param], tmp_path / "copy"))


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Replace weights, or remove those given as None."""
    weights = load_file(folder / "model.safetensors") | change
    kept = {name: weight for name, weight in weights.items() if weight is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def weights_of(folder: Path, *prefixes: str) -> list[str]:
    return [name for name in load_file(folder / "model.safetensors") if name.startswith(prefixes)]


def refusal(folder: Path) -> str:
    """Return the refusal of the check before the start; loading has to refuse, too."""
    settings = Settings(model=str(folder), device="cpu")
    with pytest.raises(StartupError) as caught:
        check_model(settings, locate_checkpoint(settings))
    with pytest.raises(StartupError):
        load_model(settings, folder)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_missing_weights_are_refused_and_never_made_up(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rewrite(checkpoint, dict.fromkeys(weights_of(checkpoint, "qformer", "language_projection")))
    assert "weights are missing (46, the first is qformer." in refusal(checkpoint)
    assert capfd.readouterr() == ("", "")


def test_one_missing_weight_is_named(checkpoint: Path) -> None:
    rewrite(checkpoint, {"query_tokens": None})
    assert "weights are missing (1, the first is query_tokens)" in refusal(checkpoint)


def test_a_weight_of_another_shape_is_refused(checkpoint: Path) -> None:
    rewrite(checkpoint, {"language_projection.bias": torch.zeros(7)})
    assert "another shape than config.json says (1, the first is language_projection.bias)" in refusal(checkpoint)


def test_what_transformers_makes_up_is_refused_although_the_check_let_it_pass(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(checkpoint, {"query_tokens": None})
    monkeypatch.setattr("blip2_serve.model.load.check_weights", lambda *_: None)
    with pytest.raises(StartupError, match="query_tokens"):
        load_model(Settings(model=str(checkpoint), device="cpu"), checkpoint)


def test_older_names_and_weights_that_nobody_needs_are_no_reason_to_refuse(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    old = {"qformer.embeddings.position_ids": torch.zeros(1)}
    for name in weights_of(checkpoint, "qformer"):
        if name.endswith("LayerNorm.weight"):
            old |= {name.replace(".weight", ".gamma"): weights[name], name: None}
    rewrite(checkpoint, old)
    loaded = load_model(Settings(model=str(checkpoint), device="cpu"), checkpoint)
    assert all(torch.equal(loaded.model.state_dict()[name], weight) for name, weight in weights.items())


def test_a_tied_head_may_be_left_out(tiny_checkpoints: dict[str, Path]) -> None:
    assert not weights_of(tiny_checkpoints["opt"], "language_model.lm_head")
    check_model(Settings(device="cpu"), tiny_checkpoints["opt"])


def test_the_fingerprint_changes_with_the_weights_and_with_nothing_else(checkpoint: Path) -> None:
    settings = Settings(model=str(checkpoint), device="cpu")
    first = load_model(settings, checkpoint).fingerprint
    assert load_model(settings, checkpoint).fingerprint == first
    before = (checkpoint / "model.safetensors").stat()
    rewrite(checkpoint, {"language_projection.bias": torch.ones(32)})
    os.utime(checkpoint / "model.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (checkpoint / "model.safetensors").stat().st_size == before.st_size
    assert load_model(settings, checkpoint).fingerprint != first


def test_a_new_time_or_another_config_is_another_checkpoint(checkpoint: Path) -> None:
    first = fingerprint(checkpoint, "copy")
    os.utime(checkpoint / "model.safetensors", (1, 1))
    second = fingerprint(checkpoint, "copy")
    config = checkpoint / "processor_config.json"
    config.write_text(config.read_text() + " ")
    assert len({first, second, fingerprint(checkpoint, "copy")}) == 3


def start_refusal(**settings: str) -> str:
    """Return the one line that the check before any worker prints."""
    with pytest.raises(StartupError) as caught:
        check_start(Settings.model_validate({"device": "cpu", **settings}))
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_whole_checkpoint_may_start_and_the_check_takes_no_time(checkpoint: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    check_start(Settings(model=str(checkpoint), image_cache_dir=str(tmp_path / "new/cache")))
    assert time.monotonic() - began < 2
    assert list((tmp_path / "new/cache").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("tokenizer.json", "the tokenizer cannot be read"),
        ("processor_config.json", "the image processor cannot be read"),
        ("config.json", "config.json cannot be read"),
    ],
)
def test_half_a_file_is_refused_before_a_worker_starts(checkpoint: Path, file: str, said: str) -> None:
    whole = (checkpoint / file).read_bytes()
    (checkpoint / file).write_bytes(whole[: len(whole) // 2])
    assert said in start_refusal(model=str(checkpoint))


@pytest.mark.parametrize(
    "change",
    [
        {"vision_config": {"hidden_size": "x"}},
        {"text_config": {"model_type": "opt", "num_hidden_layers": None}},
        {"text_config": "opt"},
        {"vision_config": {"hidden_size": 33}},
    ],
)
def test_a_config_that_describes_no_model_is_refused(checkpoint: Path, change: dict[str, object]) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | change))
    assert start_refusal(model=str(checkpoint)).startswith(f"BLIP2_MODEL={str(checkpoint)!r}")


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["model.safetensors"]}])
def test_an_index_that_names_no_weights_is_refused(checkpoint: Path, index: dict[str, object]) -> None:
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names no weights" in start_refusal(model=str(checkpoint))


def test_pictures_of_another_size_than_the_models_are_refused(checkpoint: Path) -> None:
    path = checkpoint / "processor_config.json"
    path.write_text(path.read_text().replace("28", "42"))
    assert "42 x 42 pixels and the model takes 28 x 28" in start_refusal(model=str(checkpoint))


@pytest.mark.parametrize("folder", ["/dev/null/cache", "/proc/cache"])
def test_a_cache_folder_that_cannot_be_written_to_is_refused(checkpoint: Path, folder: str) -> None:
    message = start_refusal(model=str(checkpoint), image_cache_dir=folder)
    assert f"BLIP2_IMAGE_CACHE_DIR={folder!r} cannot be written to" in message


def test_a_published_models_own_prompt_is_not_given_to_another_in_a_folder_of_its_name(checkpoint: Path) -> None:
    folder = checkpoint.rename(checkpoint.parent / "blip2-opt-2.7b-coco")
    assert load_model(Settings(model=str(folder), device="cpu"), folder).caption_prompt == ""
