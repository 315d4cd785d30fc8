"""Shared fixtures: tiny checkpoints, and the real server in a subprocess."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from blip2_serve.config import Settings
from blip2_serve.model.load import LoadedModel, load_model
from support.serving import Server, serve
from support.tiny import save_tiny_checkpoint, save_tiny_retrieval_checkpoint

FAMILIES = ("opt", "t5", "instructblip")

# Tiny models gain nothing from a second thread, and lose much on shared cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of randomly initialised checkpoints, by family."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: save_tiny_checkpoint(root / f"tiny-{family}", family) for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny_retrieval_checkpoint(tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random matching checkpoint, with the tower of the tiny OPT checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-itm"
    return save_tiny_retrieval_checkpoint(folder, tower_of=tiny_checkpoints["opt"])


@pytest.fixture(scope="session")
def tiny_models(tiny_checkpoints: dict[str, Path]) -> dict[str, LoadedModel]:
    """The tiny checkpoints, loaded."""
    return {family: load_model(Settings(model=str(path)), path) for family, path in tiny_checkpoints.items()}


@pytest.fixture(scope="session")
def server(
    tiny_checkpoints: dict[str, Path], tiny_retrieval_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The real server on a tiny OPT and a tiny matching checkpoint, with limits small enough to exceed."""
    settings = {
        "BLIP2_MODEL": str(tiny_checkpoints["opt"]),
        "BLIP2_RETRIEVAL_MODEL": str(tiny_retrieval_checkpoint),
        "BLIP2_MAX_IMAGE_PIXELS": "2000000",
        "BLIP2_MAX_REQUEST_BYTES": "1000000",
        "BLIP2_MAX_BATCH_BYTES": "2500000",
    }
    with serve(tmp_path_factory.mktemp("server"), settings) as running:
        yield running
