"""LAVIS's names mean the same models as the hub's, or one line says what to use."""

import shutil
from pathlib import Path

import pytest

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import OPT
from blip2_serve.model import locate
from blip2_serve.model.checkpoints import CHECKPOINTS, MATCHING_CHECKPOINTS, find_known, public_name
from blip2_serve.model.foreign.lavis import HUB_IDS, WITHOUT_COUNTERPART
from blip2_serve.model.locate import locate_checkpoint, locate_retrieval_checkpoint


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("pretrain_opt2.7b", "Salesforce/blip2-opt-2.7b"),
        ("blip2_opt/caption_coco_opt6.7b", "Salesforce/blip2-opt-6.7b-coco"),
        ("blip2_t5/pretrain_flant5xxl", "Salesforce/blip2-flan-t5-xxl"),
        ("caption_coco_flant5xl", "Salesforce/blip2-flan-t5-xl-coco"),
        ("blip2_t5_instruct/flant5xl", "Salesforce/instructblip-flan-t5-xl"),
    ],
)
def test_the_hub_is_asked_for_the_same_model(
    name: str, hub_id: str, monkeypatch: pytest.MonkeyPatch, tiny_checkpoints: dict[str, Path]
) -> None:
    asked = []

    def download(repo_id: str, **_: object) -> str:
        asked.append(repo_id)
        return str(tiny_checkpoints["instructblip" if "instruct" in repo_id else "opt"])

    monkeypatch.setattr(locate, "snapshot_download", download)
    locate_checkpoint(Settings(model=name))
    assert asked == [hub_id] == [public_name(name)]


def test_a_captioning_models_prompt_goes_with_its_name() -> None:
    assert find_known("blip2_opt/caption_coco_opt2.7b", OPT, 364) is CHECKPOINTS["Salesforce/blip2-opt-2.7b-coco"]


def test_every_published_checkpoint_has_a_name_of_laviss() -> None:
    assert {*CHECKPOINTS, *MATCHING_CHECKPOINTS} <= set(HUB_IDS.values())


@pytest.mark.parametrize("name", WITHOUT_COUNTERPART)
def test_a_model_without_a_counterpart_is_refused_with_what_to_use(name: str) -> None:
    field, find = ("model", locate_checkpoint)
    if "pretrain_vitL" in name:
        field, find = ("retrieval_model", locate_retrieval_checkpoint)
    with pytest.raises(StartupError) as caught:
        find(Settings.model_validate({field: name}))
    instead = caught.value.message.rpartition("; use ")[2].removesuffix(".")
    assert instead in {*HUB_IDS, *HUB_IDS.values()}


@pytest.mark.parametrize("name", ["blip2/pretrain", "blip2_image_text_matching/coco", "pretrain"])
def test_a_matching_models_name_is_refused_where_text_is_written(name: str) -> None:
    with pytest.raises(StartupError, match="name it in BLIP2_RETRIEVAL_MODEL instead"):
        locate_checkpoint(Settings(model=name))


def test_a_writing_models_name_is_refused_where_texts_are_matched() -> None:
    with pytest.raises(StartupError, match="writes text: name it in BLIP2_MODEL instead"):
        locate_retrieval_checkpoint(Settings(retrieval_model="pretrain_opt2.7b"))


def test_a_folder_of_such_a_name_is_that_folder(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_checkpoints["opt"], tmp_path / "pretrain_opt2.7b")
    monkeypatch.chdir(tmp_path)
    assert locate_checkpoint(Settings(model="pretrain_opt2.7b")) == Path("pretrain_opt2.7b")
    assert public_name("pretrain_opt2.7b") == "pretrain_opt2.7b"
