"""Layers on several CUDA devices: refusals, and modules that work as before when accelerate has hooked them.

tests/engine/test_split_model.py has the moves from device to device.
"""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import FLAN_T5, OPT
from blip2_serve.model import device, weights
from blip2_serve.model.device import Placement, choose_placement
from blip2_serve.model.weights import load_weights
from blip2_serve.options import DecodingOptions
from support.engine.driving import answer
from support.engine.wide_models import Case, make_model

AUTO = {"device_map": "auto"}


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_without_cuda_there_is_nothing_to_spread_over() -> None:
    with pytest.raises(StartupError, match=r"BLIP2_DEVICE_MAP='auto' .* not over cpu: use off"):
        choose_placement(Settings(device="cpu", **AUTO), OPT, 4e9)


@pytest.mark.usefixtures("on_cuda")
def test_one_device_and_all_of_them_contradict_each_other() -> None:
    with pytest.raises(StartupError, match="not over cuda:1"):
        choose_placement(Settings(device="cuda:1", **AUTO), OPT, 4e9)
    placement = choose_placement(Settings(**AUTO), OPT, 4e9)
    assert (placement.device_map, placement.device.type) == ("auto", "cuda")
    assert "BLIP2_DEVICE_MAP" in placement.reason


@pytest.mark.usefixtures("on_cuda")
def test_without_accelerate_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(StartupError, match=r"needs accelerate: run `pip install -r requirements-quantize.txt`"):
        choose_placement(Settings(**AUTO), OPT, 4e9)


@pytest.mark.parametrize("family", ["opt", "t5"])
def test_what_fits_on_no_cuda_device_is_refused(family: str, tiny_checkpoints: dict[str, Path]) -> None:
    """accelerate puts everything on the CPU here, as it does with what is left over."""
    placement = Placement(torch.device("cpu"), torch.float32, "", device_map="auto")
    with pytest.raises(StartupError, match="does not fit on the CUDA devices"):
        load_weights(tiny_checkpoints[family], placement, {"opt": OPT, "t5": FLAN_T5}[family])


@pytest.mark.parametrize("left_over", ["cpu", "disk", torch.device("cpu")])
def test_one_part_that_is_left_over_is_too_many(left_over: str | torch.device) -> None:
    weights._check_spread("big", {"vision_model": 0, "language_model": 1})
    with pytest.raises(StartupError, match=r"left over: 1, the first is language_model\.lm_head"):
        weights._check_spread("big", {"vision_model": 0, "language_model.lm_head": left_over})


def test_the_vision_tower_and_the_qformer_stay_together() -> None:
    weights._check_spread(
        "big", {"vision_model": 0, "qformer": 0, "language_model.encoder": 0, "language_model.decoder": 1}
    )
    with pytest.raises(StartupError, match="they stay together"):
        weights._check_spread("big", {"vision_model": 0, "qformer": 1, "language_model": 1})


@pytest.mark.filterwarnings("ignore:.*query_tokens:UserWarning")  # accelerate warns of a weight outside any module
@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_hooked_modules_answer_as_before(kind: str) -> None:
    case = Case(0, (2, 9, 11), DecodingOptions(num_beams=3, max_new_tokens=9))
    model = make_model(kind, "none")
    hooked = deepcopy(model)
    parts = {name: "cpu" for name, _ in hooked.named_children()} | {"query_tokens": "cpu"}
    hooked = dispatch_model(hooked, parts, force_hooks=True)
    assert hasattr(hooked.vision_model, "_hf_hook")
    assert answer(hooked, case.request(1)).rows == answer(model, case.request(1)).rows
