"""`pip install` into an empty environment gives a command that captions, checks and serves from any folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from support.bentos import export_tracked_files
from support.demo import CAPTION, PICTURE
from support.serving import ROOT, free_port, server_environment

pytestmark = pytest.mark.slow
# The pinned version: another could mean another gigabyte to download.
TORCH = re.search(r"^torch==.*$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`blip2-serve` in a fresh virtual environment, installed from a copy of the tree that is then deleted."""
    assert TORCH is not None
    environment, tree = tmp_path_factory.mktemp("venv"), export_tracked_files(tmp_path_factory.mktemp("tree"))
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, TORCH[0], tree], check=True, timeout=1800)
    shutil.rmtree(tree)
    return environment / "bin/blip2-serve"


def run(command: Path, folder: Path, *arguments: object, **variables: str) -> str:
    """Run the command in `folder` and return its output."""
    environment = server_environment(folder, variables)
    return subprocess.check_output([command, *map(str, arguments)], cwd=folder, env=environment, text=True, timeout=120)


def test_it_captions_a_picture(command: Path, tmp_path: Path) -> None:
    assert run(command, tmp_path, "caption", PICTURE, BLIP2_MODEL="demo") == f"{CAPTION}\n"


def test_it_checks_a_model(command: Path, tmp_path: Path) -> None:
    assert run(command, tmp_path, "check", "demo").startswith("demo can be served here.\n")


def test_it_serves_in_an_empty_folder(command: Path, tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "empty"
    folder.mkdir()
    process = subprocess.Popen(
        [command, "serve", "demo", "--port", str(port), "--host", "127.0.0.1"],
        cwd=folder,
        env=server_environment(tmp_path, {}),
        start_new_session=True,
    )
    try:
        assert caption_once_ready(f"http://127.0.0.1:{port}") == CAPTION
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert list(folder.iterdir()) == []


def caption_once_ready(url: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return httpx.post(f"{url}/generate", files={"img": PICTURE.read_bytes()}, timeout=60).text
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(url)
