"""Builds Bentos as people do, from a clean copy of the tracked files and into a store of their own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.serving import ROOT, server_environment


@dataclass(frozen=True)
class Bento:
    """A built Bento; `home` is the BENTOML_HOME whose store holds it."""

    tag: str
    home: Path
    folder: Path


def export_tracked_files(target: Path) -> Path:
    """Copy what a clone would hold, uncommitted edits included, but no .venv, caches or stray secrets."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def build_bento(tree: Path, home: Path, **settings: str) -> Bento:
    """Run `bentoml build` in `tree`, without a hub; `settings` are further environment variables."""
    environment = {**server_environment(home, settings), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    output = subprocess.check_output(command, cwd=tree, env=environment, text=True)
    tag = output.strip().removeprefix("__tag__:")
    store = Path(environment["BENTOML_HOME"])
    return Bento(tag, store, store / "bentos" / Path(*tag.split(":")))


def environment_with_tools() -> dict[str, str]:
    """Return our environment with this interpreter's `bentoml` and `python` first in PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
