"""`blip2-serve convert` writes pickled weights as safetensors, the same to the bit, and runs nothing in them."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from blip2_serve.cli.main import main
from blip2_serve.config import Settings
from blip2_serve.model.foreign import pickled
from blip2_serve.model.load import load_model
from blip2_serve.model.models import check_start
from support.broken import pickle_weights


def convert(*arguments: Path) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture(params=["opt", "t5"])
def folder(request: pytest.FixtureRequest, tiny_checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy with its weights still in safetensors."""
    return Path(shutil.copytree(tiny_checkpoints[request.param], tmp_path / "mine"))


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_model(Settings(model=str(folder), device="cpu"), folder).model.state_dict()
    return state


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("shard_bytes", [1 << 30, 100_000])
def test_the_model_is_the_same_to_the_bit(
    folder: Path, num_shards: int, shard_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled, "SHARD_BYTES", shard_bytes)
    before = state_of(folder)
    pickle_weights(folder, num_shards)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = convert(folder)
    assert result.exit_code == 0, result.output
    assert_equal(state_of(folder), before)
    assert kept.items() <= {path.name: path.read_bytes() for path in folder.iterdir()}.items()
    assert not list(folder.glob(".converting*"))


def test_tied_weights_are_kept_once_as_transformers_keeps_them(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoints["opt"], tmp_path / "mine"))
    before = load_file(folder / "model.safetensors")
    state = load_model(Settings(model=str(folder), device="cpu"), folder).model.state_dict()
    assert state.keys() > before.keys()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert convert(folder).exit_code == 0
    assert_equal(load_file(folder / "model.safetensors"), before)


def test_another_folder_becomes_a_whole_checkpoint(folder: Path, tmp_path: Path) -> None:
    before = state_of(folder)
    pickle_weights(folder)
    names = {path.name for path in folder.iterdir()}
    assert convert(folder, tmp_path / "new/out").exit_code == 0
    assert {path.name for path in folder.iterdir()} == names
    assert_equal(state_of(tmp_path / "new/out"), before)
    check_start(Settings(model=str(tmp_path / "new/out"), device="cpu"))


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def test_a_pickle_that_would_run_code_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"query_tokens": Harmful(f"touch {tmp_path}/ran")}, folder / "pytorch_model.bin")
    result = convert(folder)
    assert result.exit_code == 1
    assert "pytorch_model.bin holds more than weights (posix.system)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a pickle"])
def test_a_damaged_pickle_is_refused_in_one_line(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    result = convert(folder)
    assert result.exit_code == 1
    assert "pytorch_model.bin" in result.stderr
    assert result.stderr.count("\n") == 1


def test_weights_that_are_not_the_configs_are_refused_before_anything_is_written(folder: Path) -> None:
    pickle_weights(folder)
    torch.save({"query_tokens": torch.zeros(1)}, folder / "pytorch_model.bin")
    result = convert(folder)
    assert "weights are missing" in result.stderr
    assert not list(folder.glob("*.safetensors"))


def test_a_weight_that_is_stretched_over_less_memory_is_refused(folder: Path) -> None:
    pickle_weights(folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({**weights, "extra": torch.zeros(1).expand(2**40)}, folder / "pytorch_model.bin")
    result = convert(folder)
    assert "extra is larger than" in result.stderr
    assert not list(folder.glob("*.safetensors"))


def test_an_index_that_names_no_files_is_refused(folder: Path) -> None:
    pickle_weights(folder)
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": ["x"]}}')
    assert "names no weights" in convert(folder).stderr


def test_without_a_pickle_there_is_nothing_to_convert(folder: Path) -> None:
    assert "has no pytorch_model.bin: there is nothing to convert" in convert(folder).stderr
