"""With unusable settings or weights, the whole process ends within seconds, with one line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.serving import ROOT, free_port, server_environment, start_server


def ended_with(tmp_path: Path, settings: dict[str, str]) -> str:
    """Start the server, wait for it to exit and return the line that gives the reason."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = start_server(tmp_path, settings, free_port(), output)
        try:
            code = process.wait(40)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert code == 1
    lines = [line for line in log.read_text().splitlines() if "blip2-serve cannot start" in line]
    assert len(lines) == 1, log.read_text()
    assert "Traceback" not in log.read_text()
    return lines[0]


def test_a_malformed_setting_ends_the_start(tmp_path: Path) -> None:
    line = ended_with(tmp_path, {"BLIP2_MODEL": "demo", "BLIP2_THREADS": "lots"})
    assert "BLIP2_THREADS='lots'" in line


def test_an_unknown_setting_ends_the_start(tmp_path: Path) -> None:
    assert "BLIP2_MODLE='demo'" in ended_with(tmp_path, {"BLIP2_MODLE": "demo"})


def test_without_a_hub_the_start_ends(tmp_path: Path) -> None:
    hub = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path / "cache")}
    began = time.monotonic()
    line = ended_with(tmp_path, {"BLIP2_MODEL": "Salesforce/blip2-opt-2.7b", **hub})
    assert "the hub cannot be reached" in line
    assert time.monotonic() - began < 40


def test_half_a_folder_ends_the_start(tmp_path: Path, tiny_checkpoints: dict[str, Path]) -> None:
    folder = shutil.copytree(tiny_checkpoints["opt"], tmp_path / "half")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in ended_with(tmp_path, {"BLIP2_MODEL": str(folder)})


def test_half_a_tokenizer_ends_the_start(tmp_path: Path, tiny_checkpoints: dict[str, Path]) -> None:
    folder = shutil.copytree(tiny_checkpoints["opt"], tmp_path / "half")
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:1000])
    assert "the tokenizer cannot be read" in ended_with(tmp_path, {"BLIP2_MODEL": str(folder)})


def test_a_cache_folder_that_cannot_be_made_ends_the_start(tmp_path: Path, tiny_checkpoints: dict[str, Path]) -> None:
    settings = {"BLIP2_MODEL": str(tiny_checkpoints["opt"]), "BLIP2_IMAGE_CACHE_DIR": "/dev/null/x"}
    assert "BLIP2_IMAGE_CACHE_DIR='/dev/null/x'" in ended_with(tmp_path, settings)


def test_flan_t5_in_float16_ends_the_start(tmp_path: Path, tiny_checkpoints: dict[str, Path]) -> None:
    settings = {"BLIP2_MODEL": str(tiny_checkpoints["t5"]), "BLIP2_DTYPE": "float16"}
    assert "BLIP2_DTYPE='float16'" in ended_with(tmp_path, settings)


def test_importing_the_service_reads_no_setting(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import service"],
        cwd=ROOT,
        env=server_environment(tmp_path, {"BLIP2_THREADS": "lots"}),
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("model", ["Salesforce/blip2-itm-vit-g"])
def test_a_matching_checkpoint_ends_the_start(tmp_path: Path, model: str) -> None:
    assert "cannot caption" in ended_with(tmp_path, {"BLIP2_MODEL": model})
