"""Device and dtype are chosen, or taken from the settings, or refused."""

from pathlib import Path

import pytest
import torch

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import FLAN_T5, OPT
from blip2_serve.model.device import choose_placement, cpu_has_fast_bfloat16, use_available_threads

HUGE, TINY = 4e9, 2e6


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.usefixtures("on_cuda")
def test_on_cuda_each_family_gets_the_half_precision_it_was_trained_in() -> None:
    assert choose_placement(Settings(), OPT, HUGE).dtype is torch.float16
    assert choose_placement(Settings(), FLAN_T5, HUGE).dtype is torch.bfloat16


@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_on_a_cpu_a_large_model_gets_bfloat16_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, fast: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("blip2_serve.model.device.cpu_has_fast_bfloat16", lambda: fast)
    assert choose_placement(Settings(), OPT, HUGE).dtype is expected
    assert choose_placement(Settings(), OPT, TINY).dtype is torch.float32


def test_the_settings_win_and_the_reason_says_so() -> None:
    placement = choose_placement(Settings(device="cpu", dtype="bfloat16"), OPT, TINY)
    assert placement.dtype is torch.bfloat16
    assert "BLIP2_DTYPE" in placement.reason
    assert "BLIP2_DEVICE" in placement.reason


def test_flan_t5_in_float16_is_refused() -> None:
    with pytest.raises(StartupError, match="Flan-T5"):
        choose_placement(Settings(device="cpu", dtype="float16"), FLAN_T5, HUGE)


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(StartupError, match=device):
        choose_placement(Settings(device=device), OPT, HUGE)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("flags : fpu amx_bf16 sse", True), ("flags : avx512_bf16", True), ("flags : avx2", False), ("", False)],
)
def test_fast_bfloat16_is_read_from_the_cpu(tmp_path: Path, flags: str, fast: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert cpu_has_fast_bfloat16(tmp_path / "cpuinfo") is fast


def test_a_small_model_computes_in_one_thread_and_a_large_one_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip2_serve.model.device.available_cpus", lambda: 2)
    before = torch.get_num_threads()
    try:
        assert use_available_threads(Settings(), TINY) == torch.get_num_threads() == 1
        assert use_available_threads(Settings(), HUGE) == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_can_be_set() -> None:
    before = torch.get_num_threads()
    try:
        assert use_available_threads(Settings(threads=1), HUGE) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
