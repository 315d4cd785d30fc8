"""`blip2-serve check` reports what the server needs, or in one line why it cannot start."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blip2_serve.cli.main import main
from blip2_serve.model import device
from support.adapters import save_adapter


def check(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments], env=variables)


def test_it_says_device_dtype_and_memory() -> None:
    result = check("demo", "--device", "cpu")
    assert result.exit_code == 0
    first, *about = result.stdout.splitlines()
    assert first == "demo can be served here."
    assert about[0] == "  cpu: set by BLIP2_DEVICE"
    assert about[1].startswith("  float32: ")
    assert about[2] == "  weights: 12.8 MB"
    assert about[3].startswith("  free memory: ")


def test_half_precision_takes_half_the_memory() -> None:
    assert "\n  weights: 6.4 MB\n" in check("demo", "--dtype", "bfloat16", "--device", "cpu").stdout


def test_the_model_comes_from_the_environment_and_the_argument_wins() -> None:
    assert "demo-t5 can be served" in check(BLIP2_MODEL="demo-t5").stdout
    assert "demo can be served" in check("demo", BLIP2_MODEL="demo-t5").stdout


def test_it_refuses_what_the_server_refuses(tmp_path: Path) -> None:
    result = check(str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "config.json is missing" in result.stderr
    assert result.stderr.count("\n") == 1


def test_weights_beyond_the_free_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "free_memory_bytes", lambda _: 10_000_000)
    result = check("demo", "--device", "cpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "its weights take 12.8 MB and 10.0 MB are free" in result.stderr


def test_an_adapter_is_named_and_one_that_does_not_fit_is_refused(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_checkpoints["opt"]
    adapter = save_adapter(tmp_path / "lora", base, target_modules=["q_proj"])
    result = check(str(base), "--adapter", str(adapter), "--device", "cpu")
    assert result.stdout.splitlines()[1] == "  adapter: lora, merged into it"
    refused = check("demo", BLIP2_ADAPTER=str(adapter))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "cannot be merged into BLIP2_MODEL" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_matching_model_is_counted_and_may_be_alone() -> None:
    both = check("demo", "--device", "cpu", BLIP2_RETRIEVAL_MODEL="demo-itm").stdout
    assert "demo can be served here." in both
    assert "demo-itm can be served here." in both
    assert "\n  weights: 24.4 MB\n" in both
    alone = check("none", "--device", "cpu", BLIP2_RETRIEVAL_MODEL="demo-itm").stdout
    assert "\n  weights: 11.6 MB\n" in alone
    nothing = check("none", "--device", "cpu")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "nothing to serve" in nothing.stderr
