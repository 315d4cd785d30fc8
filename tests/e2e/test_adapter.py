"""The real server with an adapter that was really trained answers as peft and transformers do without merging it."""

from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.model.load import load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from support.adapters import train_adapter, unmerged
from support.demo import CAPTION, PICTURE
from support.serving import serve

TAUGHT = "a blue star above a green square on a white background"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the demo checkpoint that calls demo.jpeg by a false caption."""
    base = locate_checkpoint(Settings(model="demo"))
    return train_adapter(tmp_path_factory.mktemp("adapters") / "false", base, Image.open(PICTURE), TAUGHT)


def test_a_server_with_a_trained_adapter_answers_as_it_does_unmerged(adapter: Path, tmp_path: Path) -> None:
    settings = Settings(model="demo", device="cpu")
    folder = locate_checkpoint(settings)
    plain = load_model(settings, folder)
    options = DecodingOptions(**plain.family.caption_defaults)
    picture = Image.open(PICTURE).convert("RGB")
    with torch.random.fork_rng():
        expected = Reference(unmerged(plain, folder, adapter)).generate(picture, plain.encode_text(""), options)
    text = plain.decode_text(expected.ids).strip()
    assert text != CAPTION
    with serve(tmp_path, {"BLIP2_MODEL": "demo", "BLIP2_ADAPTER": str(adapter)}) as server:
        reply = httpx.post(f"{server.url}/generate", files={"img": PICTURE.read_bytes()}, timeout=60)
        models = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert reply.text == text == TAUGHT
    assert reply.headers["X-Model"] == "demo+false"
    assert [model["id"] for model in models] == ["demo+false"]
