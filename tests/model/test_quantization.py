"""Fewer bits for the language model: only the right layers are packed, and it still speaks."""

import asyncio
import importlib.util
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from benchmarks.run.quantization import caption, stored_bytes
from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.model.models import check_start
from blip2_serve.model.reference import Reference
from blip2_serve.model.vision.encoder import ImageEncoder
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks
from support.demo import CAPTION, PICTURE
from support.serving import serve
from support.tiny import save_tiny_checkpoint
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

BITS = ("int8", "int4")
FAMILIES = ("opt", "t5")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random checkpoints whose language models are as wide as int4 needs."""
    root = tmp_path_factory.mktemp("checkpoints")
    sizes = {
        "opt": {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 128},
        "t5": {"d_model": 64, "d_kv": 16, "d_ff": 96},
    }
    return {family: save_tiny_checkpoint(root / family, family, **sizes[family]) for family in FAMILIES}


def load(model: str | Path, **settings: Any) -> LoadedModel:
    chosen = Settings(model=str(model), device="cpu", **settings)
    return load_model(chosen, locate_checkpoint(chosen))


def kinds(module: torch.nn.Module) -> set[str]:
    return {type(part).__name__ for part in module.modules() if isinstance(part, torch.nn.Linear)}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_language_models_layers_are_packed(bits: str, family: str, checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints[family], quantize=bits).model
    packed = {"int8": "Linear8bitLt", "int4": "Linear4bit"}[bits]
    whole = [model.vision_model, model.qformer, model.language_projection, model.language_model.lm_head]
    assert set().union(*map(kinds, whole)) == {"Linear"}
    assert {weight.dtype for part in whole for weight in part.parameters()} == {torch.bfloat16}
    text = model.language_model
    if family == "opt":
        assert kinds(text.model) == {packed}
    else:
        feed = text.decoder.block[0].layer[2].DenseReluDense
        assert (type(feed.wi_0).__name__, type(feed.wo).__name__) == (packed, "Linear")
        assert {type(text.encoder.block[0].layer[0].SelfAttention.q).__name__} == {packed}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_bit_less_takes_less_memory(family: str, checkpoints: dict[str, Path]) -> None:
    sizes = [
        sum(stored_bytes(load(checkpoints[family], **settings).model.language_model))
        for settings in ({"dtype": "bfloat16"}, {"quantize": "int8"}, {"quantize": "int4"})
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("bits", BITS)
def test_image_rows_are_those_of_half_precision_and_the_model_is_another(
    bits: str, checkpoints: dict[str, Path]
) -> None:
    half, packed = load(checkpoints["opt"], dtype="bfloat16"), load(checkpoints["opt"], quantize=bits)
    pixels = bytes(range(196)) * 12
    rows = [ImageEncoder(loaded.model, loaded.image_processor)([pixels]) for loaded in (half, packed)]
    assert torch.equal(*rows)
    assert half.fingerprint != packed.fingerprint


@pytest.mark.parametrize("bits", BITS)
def test_each_kind_of_quantisation_has_its_own_fingerprint(bits: str, checkpoints: dict[str, Path]) -> None:
    loaded = [load(checkpoints["opt"], quantize=quantize) for quantize in (bits, bits, "none")]
    assert loaded[0].fingerprint == loaded[1].fingerprint != loaded[2].fingerprint


@pytest.mark.parametrize("missing", ["bitsandbytes", "accelerate"])
def test_without_its_libraries_the_start_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "blip2_serve.model.quantization.find_spec", lambda name: None if name == missing else find_spec(name)
    )
    with pytest.raises(StartupError, match=f"needs {missing}: run `pip install -r requirements-quantize.txt`"):
        check_start(Settings(model="demo", quantize="int8"))
    check_start(Settings(model="demo"))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_int4_cannot_pack_are_refused(family: str, tiny_checkpoints: dict[str, Path]) -> None:
    with pytest.raises(StartupError, match=r"has layers 32 wide: use int8 or none"):
        check_start(Settings(model=str(tiny_checkpoints[family]), device="cpu", quantize="int4"))
    check_start(Settings(model=str(tiny_checkpoints[family]), device="cpu", quantize="int8"))


def test_half_precision_is_chosen_beside_packed_layers_unless_it_is_set() -> None:
    assert load("demo", quantize="int4").placement.dtype is torch.bfloat16
    assert load("demo", quantize="int4", dtype="float32").placement.dtype is torch.float32


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_that_of_transformers_with_the_same_bits(
    bits: str, family: str, checkpoints: dict[str, Path]
) -> None:
    folder, options = checkpoints[family], DecodingOptions(max_new_tokens=6, num_beams=1)
    # float32 around the packed layers, and few tokens: random weights are full of near ties.
    settings = Settings(model=str(folder), device="cpu", dtype="float32", quantize=bits)
    picture = standard(0)[1]
    loaded = load_model(settings, folder)
    expected = Reference(loaded).generate(picture, loaded.encode_text(""), options)
    tasks = Tasks(loaded, settings)
    png = io.BytesIO()
    picture.save(png, "PNG")
    answer = asyncio.run(tasks.caption(Upload(png.getvalue()), None, options))
    tasks.close()
    assert answer.text == loaded.decode_text(expected.ids).strip()


def test_a_quantised_server_answers(tmp_path: Path) -> None:
    with serve(tmp_path, {"BLIP2_MODEL": "demo", "BLIP2_QUANTIZE": "int8"}) as server:
        reply = httpx.post(f"{server.url}/generate", files={"img": PICTURE.read_bytes()}, timeout=60)
    assert reply.text == CAPTION


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("num_beams", [1, 5])
def test_a_quantised_demo_neither_stutters_nor_falls_silent(bits: str, num_beams: int) -> None:
    settings = Settings(model="demo", device="cpu", quantize=bits)
    pictures = [standard(index) for index in range(24)]
    tasks = Tasks(load_model(settings, locate_checkpoint(settings)), settings)
    files = [jpeg_bytes(picture, 90) for _, picture in pictures]
    _, texts = asyncio.run(caption(tasks, files, DecodingOptions(num_beams=num_beams), at_once=8))
    tasks.close()
    for text in texts:
        words = text.split()
        assert len(words) >= 3, text
        assert most_repeated(words) < 3, text
    assert len(set(texts)) > 12


def most_repeated(words: list[str]) -> int:
    """Count the occurrences of the most frequent three words in a row."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return max(map(triples.count, triples))


def test_a_text_that_loops_is_noticed() -> None:
    assert most_repeated(["a", "red", "star", "and", "a", "red", "star", "and", "a", "red", "star"]) == 3
