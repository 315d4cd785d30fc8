"""A checkpoint is found whole, or one line says what was tried and what to set."""

import json
import shutil
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import FLAN_T5, OPT, Family
from blip2_serve.model.checkpoints import CHECKPOINTS, MATCHING_CHECKPOINTS, find_known, public_name
from blip2_serve.model.locate import locate_checkpoint


@pytest.fixture
def checkpoint(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy for tests to damage."""
    return Path(shutil.copytree(tiny_checkpoints["opt"], tmp_path / "copy"))


def refusal(model: object) -> str:
    with pytest.raises(StartupError) as caught:
        locate_checkpoint(Settings(model=str(model)))
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_whole_folder_is_taken(checkpoint: Path) -> None:
    assert locate_checkpoint(Settings(model=str(checkpoint))) == checkpoint


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json"])
def test_half_a_folder_is_refused(checkpoint: Path, missing: str) -> None:
    (checkpoint / missing).unlink()
    message = refusal(checkpoint)
    assert "incomplete" in message
    assert "missing" in message


def test_a_checkpoint_without_the_tokenizer_of_its_qformer_is_refused(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoints["instructblip"], tmp_path / "copy"))
    shutil.rmtree(folder / "qformer_tokenizer")
    assert "qformer_tokenizer is missing" in refusal(folder)


def test_a_missing_shard_is_named(checkpoint: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors is missing" in refusal(checkpoint)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_weights_that_were_cut_short_are_refused(checkpoint: Path, share: float) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(weights.stat().st_size * share)])
    assert "cut short or damaged" in refusal(checkpoint)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_config_is_refused(checkpoint: Path, content: str) -> None:
    (checkpoint / "config.json").write_text(content)
    assert "config.json" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "llava"}, "'llava' checkpoint"),
        ({"architectures": ["Blip2ForImageTextRetrieval"]}, "no language model"),
        ({"text_config": {"model_type": "llama"}}, "'llama' language model; OPT and T5 ones are served"),
        ({"model_type": "instructblip"}, "'opt' language model; T5 ones are served"),
    ],
)
def test_another_kind_of_model_is_refused(checkpoint: Path, change: dict[str, object], said: str) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | change))
    assert said in refusal(checkpoint)


@pytest.mark.parametrize("model", MATCHING_CHECKPOINTS)
def test_the_matching_checkpoints_are_refused_with_one_sentence(model: str) -> None:
    assert "cannot caption" in refusal(model)


@pytest.mark.parametrize("model", ["/nowhere", "./nowhere", "~/nowhere"])
def test_a_folder_that_is_not_there_is_no_hub_id(model: str) -> None:
    assert "is no folder" in refusal(model)


@pytest.mark.parametrize("model", ["not a name", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_said(model: str) -> None:
    assert "neither a folder nor a hub id" in refusal(model)


def test_an_unreachable_hub_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    began = time.monotonic()
    message = refusal("Salesforce/blip2-opt-2.7b")
    assert time.monotonic() - began < 10
    assert "the hub cannot be reached" in message
    assert "BLIP2_MODEL" in message


def test_the_seven_generating_checkpoints_are_known_by_name() -> None:
    assert len(CHECKPOINTS) == 7
    coco = {name for name, known in CHECKPOINTS.items() if known.caption_prompt == "a photo of"}
    assert coco == {name for name in CHECKPOINTS if name.endswith("-coco")}


def test_a_copy_on_a_volume_is_known_by_its_folder() -> None:
    known = find_known("/models/blip2-opt-2.7b-coco", OPT, 364)
    assert known is CHECKPOINTS["Salesforce/blip2-opt-2.7b-coco"]
    assert find_known("/models/mine", OPT, 364) is None


@pytest.mark.parametrize(("family", "image_size"), [(FLAN_T5, 364), (OPT, 224)])
def test_another_model_in_a_folder_of_a_known_name_is_not_taken_for_it(family: Family, image_size: int) -> None:
    assert find_known("/models/blip2-opt-2.7b-coco", family, image_size) is None


def test_what_is_known_by_name_agrees_with_the_name() -> None:
    for name, known in CHECKPOINTS.items():
        assert known.name == name
        assert known.family is (OPT if "-opt-" in name else FLAN_T5)
        assert known.image_size == (364 if known.caption_prompt else 224)


def test_the_public_name_is_never_a_path(checkpoint: Path) -> None:
    assert public_name(str(checkpoint)) == "copy"
    assert public_name("Salesforce/blip2-opt-2.7b") == "Salesforce/blip2-opt-2.7b"


def test_the_public_name_of_a_folder_in_the_home_is_no_path_either(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    monkeypatch.chdir(checkpoint)
    assert public_name("~/copy") == public_name(".") == public_name("../copy/") == "copy"


@pytest.mark.parametrize("name", ["модель", "a\nb", "模型"])
def test_the_public_name_can_travel_in_a_header(checkpoint: Path, name: str) -> None:
    public = public_name(str(checkpoint.rename(checkpoint.parent / name)))
    assert public.isascii()
    assert public.isprintable()
    assert unquote(public) == name
