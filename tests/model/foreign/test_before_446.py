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
    async def texts(tasks: Tasks) -> list[str]:
        image = Upload((FOLDER / "picture.png").read_bytes())
        cases = [case for case in ANSWERS[family] if case["prompt"]]
        return [
            (await tasks.caption(image, case["prompt"], DecodingOptions(**case["decoding"]))).text for case in cases
        ]

    settings = Settings(model=str(FOLDER / family), device="cpu", dtype="float32")
    loaded = load_model(settings, FOLDER / family)
    tasks = Tasks.load(settings)
    try:
        said = asyncio.run(texts(tasks))
    finally:
        tasks.close()
    cases = [case for case in ANSWERS[family] if case["prompt"]]
    begins = [loaded.family.echoed_prefix(case["prompt"]) for case in cases]
    assert said == [begin + loaded.decode_text(case["ids"]) for begin, case in zip(begins, cases, strict=True)]
