"""Checkpoints that transformers 4.45 saved give the answers that transformers 4.45 gives.

The oracle is before-4.46/answers.json, which scripts/write_old_checkpoints.py writes in an environment of its own.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.load import load_model
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks

FOLDER = Path(__file__).parent / "before-4.46"
ANSWERS: dict[str, Any] = json.loads((FOLDER / "answers.json").read_text())
FAMILIES = ("opt", "t5", "instructblip")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_old_checkpoint_gives_the_answers_of_its_time(family: str) -> None:
    settings = Settings(model=str(FOLDER / family), device="cpu", dtype="float32")
    loaded = load_model(settings, FOLDER / family)
    picture = Image.open(FOLDER / "picture.png")
    assert len(ANSWERS[family]) == 6
    for case in ANSWERS[family]:
        ids, instruction = loaded.encode_text(case["prompt"]), loaded.encode_instruction(case["prompt"])
        assert (ids, list(instruction)) == (case["prompt_ids"], case["instruction_ids"])
        made = Reference(loaded).generate(picture, ids, DecodingOptions(**case["decoding"]), instruction)
        assert made.ids == case["ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_gives_them_too(family: str) -> None:
    settings = Settings(model=str(FOLDER / family), device="cpu", dtype="float32")
    loaded = load_model(settings, FOLDER / family)
    cases = [case for case in ANSWERS[family] if case["prompt"]]
    picture = (FOLDER / "picture.png").read_bytes()

    async def write(tasks: Tasks) -> list[str]:
        options = [DecodingOptions(**case["decoding"]) for case in cases]
        asked = zip(cases, options, strict=True)
        return [(await tasks.caption(Upload(picture), case["prompt"], each)).text for case, each in asked]

    tasks = Tasks(loaded, settings)
    try:
        written = asyncio.run(write(tasks))
    finally:
        tasks.close()
    expected = [loaded.family.echoed_prefix(case["prompt"]) + loaded.decode_text(case["ids"]) for case in cases]
    assert [text.split() for text in written] == [text.split() for text in expected]
