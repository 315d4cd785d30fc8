"""An adapter that cannot be merged ends the start with one line that says what to do, before weights are read."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig
from safetensors.torch import load_file

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.models import check_start
from support.adapters import load_with, reconfigure, rewrite, save_adapter, settings_with

Q_PROJ = "base_model.model.language_model.model.decoder.layers.0.self_attn.q_proj"


@pytest.fixture
def base(tiny_checkpoints: dict[str, Path]) -> Path:
    return tiny_checkpoints["opt"]


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """An adapter for tests to damage."""
    return save_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], modules_to_save=["language_projection"])


def refusal(settings: Settings) -> str:
    with pytest.raises(StartupError) as caught:
        check_start(settings)
    assert "\n" not in caught.value.message
    return caught.value.message


def refusal_of(adapter: Path | str, base: Path | str, **settings: Any) -> str:
    """Return the one line that the check before any worker prints; it names the setting."""
    message = refusal(settings_with(base, adapter, **settings))
    assert message.startswith(f"BLIP2_ADAPTER={str(adapter)!r}")
    return message


def test_an_adapter_as_the_model_says_what_to_set(adapter: Path) -> None:
    said = (
        "is an adapter and no whole checkpoint: set BLIP2_ADAPTER to it, and BLIP2_MODEL to the model that it was made"
    )
    assert said in refusal(Settings(model=str(adapter), device="cpu"))
    assert said in refusal(settings_with(adapter, adapter))


def test_an_adapter_from_the_hub_as_the_model_says_what_to_set(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip2_serve.model.locate.snapshot_download", lambda *_, **__: str(adapter))
    assert "'someone/lora' is an adapter" in refusal(Settings(model="someone/lora", device="cpu"))


def test_of_a_hub_repository_only_the_adapter_is_downloaded(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(adapter)

    monkeypatch.setattr("blip2_serve.model.locate.snapshot_download", download)
    check_start(settings_with(base, "someone/lora", adapter_revision="v2"))
    assert (asked["repo_id"], asked["revision"]) == ("someone/lora", "v2")
    assert set(asked["allow_patterns"]) == {"adapter_config.json", "adapter_model.safetensors", "confidence.json"}


def test_an_adapter_as_the_matching_model_is_refused(adapter: Path) -> None:
    said = refusal(Settings(model="demo", device="cpu", retrieval_model=str(adapter)))
    assert "adapters are merged into BLIP2_MODEL alone" in said


def test_an_adapter_beside_a_checkpoint_is_merged_if_it_is_named_and_never_overlooked(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    both = Path(shutil.copytree(base, tmp_path / "both"))
    for file in adapter.glob("adapter_*"):
        shutil.copy(file, both)
    assert "holds an adapter beside the checkpoint: set BLIP2_ADAPTER" in refusal(
        Settings(model=str(both), device="cpu")
    )
    expected = load_with(base, adapter).model.state_dict()
    found = load_with(both, both).model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_whole_checkpoint_as_the_adapter_is_refused(base: Path) -> None:
    assert "is no adapter but a whole checkpoint, for BLIP2_MODEL" in refusal_of(base, base)


def test_an_empty_folder_and_none_are_refused(base: Path, tmp_path: Path) -> None:
    assert "without adapter_config.json: set BLIP2_ADAPTER" in refusal_of(tmp_path, base)
    assert "is no folder: set BLIP2_ADAPTER" in refusal_of("/nowhere", base)


def test_an_adapter_without_a_model_is_refused(adapter: Path) -> None:
    with pytest.raises(StartupError, match="merged into BLIP2_MODEL, which is none"):
        Settings.from_env({"BLIP2_ADAPTER": str(adapter), "BLIP2_MODEL": "none", "BLIP2_RETRIEVAL_MODEL": "demo-itm"})


def test_pickled_weights_are_refused_with_a_command_that_converts_them(base: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    torch.save(weights, adapter / "adapter_model.bin")
    file.unlink()
    message = refusal_of(adapter, base)
    assert "adapter_model.safetensors is missing (only safetensors are read)" in message
    command = re.search(r'python -c "(.+)"$', message)
    assert command is not None
    subprocess.run([sys.executable, "-c", command[1]], cwd=adapter, check=True, timeout=120)
    check_start(settings_with(base, adapter))
    assert load_file(file).keys() == weights.keys()


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_weights_that_were_cut_short_are_refused(share: float, base: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert "cut short or damaged" in refusal_of(adapter, base)


@pytest.mark.parametrize(
    ("content", "said"), [("", "cannot be read"), ("{", "cannot be read"), ("[]", "no JSON object")]
)
def test_a_damaged_config_is_refused(content: str, said: str, base: Path, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(content)
    assert said in refusal_of(adapter, base)


def test_another_kind_of_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    ia3 = IA3Config(target_modules=["q_proj", "fc1"], feedforward_modules=["fc1"])
    assert "of the kind 'IA3': only LORA" in refusal_of(save_adapter(tmp_path / "ia3", base, ia3), base)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "of the kind 'PROMPT_TUNING'"),
        ({"peft_type": None}, "of the kind 'None'"),
        ({"layer_replication": [[0, 1]]}, "made with layer_replication, which cannot be merged here"),
        ({"a_new_idea": {"x": 1}}, "made with a_new_idea"),
        ({"init_lora_weights": "pissa"}, "began as 'pissa', which changes the base model"),
        ({"r": 10**12}, "a rank that is not 1 to"),
        ({"r": "8"}, "a rank that is not 1 to"),
        ({"rank_pattern": {"q_proj": 0}}, "a rank that is not 1 to"),
        ({"rank_pattern": 3}, "cannot be merged"),
        ({"lora_alpha": "much"}, "cannot be merged"),
        ({"r": 4}, "weights have another shape (4, the first is"),
        ({"use_dora": True}, "are not those that adapter_config.json asks for (1, the first is lora_magnitude_vector"),
    ],
)
def test_a_config_that_cannot_be_merged_is_refused(
    change: dict[str, Any], said: str, base: Path, adapter: Path
) -> None:
    reconfigure(adapter, **change)
    assert said in refusal_of(adapter, base)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_model.model.vision_tower.x.lora_A.weight": torch.zeros(8, 32)}, "fit no layer of it (1, the first is"),
        ({"base_model.model.logit_scale": torch.zeros(1)}, "fit no layer of it (1, the first is"),
        ({f"{Q_PROJ}.lora_B.weight": None}, "are not those that adapter_config.json asks for (1, the first is lora_B"),
        ({f"{Q_PROJ}.lora_A.default.weight": torch.zeros(8, 32)}, "fit no layer of it (1, the first is"),
        ({f"{Q_PROJ}.lora_C.weight": torch.zeros(8, 32)}, "fit no layer of it (1, the first is"),
        ({"base_model.model.language_projection.bias": torch.zeros(7)}, "have another shape (1, the first is"),
    ],
)
def test_weights_that_fit_nothing_are_refused_and_never_dropped(
    change: dict[str, torch.Tensor | None], said: str, base: Path, adapter: Path
) -> None:
    rewrite(adapter, change)
    assert said in refusal_of(adapter, base)


def test_an_adapter_for_another_size_or_family_is_refused_with_the_name_of_its_base(
    base: Path, adapter: Path, tiny_checkpoints: dict[str, Path]
) -> None:
    assert f"it was made for {str(base)!r}." in refusal_of(adapter, "demo")
    message = refusal_of(adapter, tiny_checkpoints["t5"])
    assert "weights fit no layer of it (4, the first is" in message


def test_numbers_that_are_not_finite_are_refused_at_load(base: Path, adapter: Path) -> None:
    rewrite(adapter, {f"{Q_PROJ}.lora_A.weight": torch.full((8, 32), torch.nan)})
    with pytest.raises(StartupError, match="NaNs detected") as caught:
        load_with(base, adapter)
    assert "\n" not in caught.value.message


def test_without_peft_the_start_says_what_to_install(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "blip2_serve.model.adapter.files.find_spec", lambda name: None if name == "peft" else find_spec(name)
    )
    assert "needs peft: run `pip install -r requirements-adapter.txt`" in refusal_of(adapter, base)
    check_start(Settings(model=str(base), device="cpu"))


def test_the_config_of_a_new_adapter_asks_for_nothing_that_is_refused(base: Path, adapter: Path) -> None:
    written = json.loads((adapter / "adapter_config.json").read_text())
    assert written.keys() >= LoraConfig().to_dict().keys() - {"runtime_config"}
    check_start(settings_with(base, adapter))
