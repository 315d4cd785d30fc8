"""The published checkpoints give the published answers. Runs where their weights and the two pictures are present.

Weights: in the hub's local cache (`hf download Salesforce/blip2-opt-2.7b`). Pictures, in this folder: merlion.png
(LAVIS, docs/_static/merlion.png) and demo.jpg (the woman and her dog on a beach of transformers' BLIP tests,
storage.googleapis.com/sfr-vision-language-research/BLIP/demo.jpg). The values are LAVIS's and transformers' own.
"""

import asyncio
import io
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.families import OPT
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.reference import Reference
from blip2_serve.model.retrieval.load import load_retrieval_model
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks

FOLDER = Path(__file__).parent
BEAMS = DecodingOptions()
GREEDY = DecodingOptions(num_beams=1)

CAPTIONS_OF_THE_MERLION = {
    "Salesforce/blip2-opt-2.7b": "the merlion fountain in singapore",
    "Salesforce/blip2-opt-6.7b": "a statue of a merlion in front of a water fountain",
    "Salesforce/blip2-opt-2.7b-coco": "a statue of a mermaid spraying water into the air",
    "Salesforce/blip2-flan-t5-xl": "marina bay sands, singapore",
    "Salesforce/blip2-flan-t5-xxl": "the merlion statue in singapore",
}
GREEDY_CAPTIONS_OF_THE_BEACH = {
    "Salesforce/blip2-opt-2.7b": "a woman sitting on the beach with a dog",
    "Salesforce/blip2-flan-t5-xl": "woman playing with dog on the beach",
}
CITIES_OF_THE_BEACH = {
    "Salesforce/blip2-opt-2.7b": "it's not a city, it's a beach",
    "Salesforce/blip2-flan-t5-xl": "san diego",
}
GREEDY_IDS_OF_THE_BEACH = [102, 693, 2828, 15, 5, 4105, 19, 10, 2335, 50118]


def model(name: str) -> LoadedModel:
    try:
        folder = snapshot_download(name, local_files_only=True)
    except LocalEntryNotFoundError:
        pytest.skip(f"the weights of {name} are not in the hub's local cache")
    return load_model(Settings(model=name), Path(folder))


def picture(name: str) -> Image.Image:
    if not (FOLDER / name).is_file():
        pytest.skip(f"{name} is not in tests/golden/")
    return Image.open(FOLDER / name).convert("RGB")


def say(loaded: LoadedModel, image: Image.Image, prompt: str, options: DecodingOptions) -> str:
    ids = Reference(loaded).generate(image, loaded.encode_text(prompt), options).ids
    return loaded.decode_text(ids).strip()


@pytest.mark.parametrize("name", CAPTIONS_OF_THE_MERLION)
def test_the_merlion_is_captioned_as_by_lavis(name: str) -> None:
    image, loaded = picture("merlion.png"), model(name)
    assert say(loaded, image, loaded.caption_prompt, BEAMS) == CAPTIONS_OF_THE_MERLION[name]


@pytest.mark.parametrize("name", GREEDY_CAPTIONS_OF_THE_BEACH)
def test_the_beach_is_captioned_as_by_transformers(name: str) -> None:
    image, loaded = picture("demo.jpg"), model(name)
    assert say(loaded, image, "", GREEDY) == GREEDY_CAPTIONS_OF_THE_BEACH[name]


@pytest.mark.parametrize("name", CITIES_OF_THE_BEACH)
def test_the_city_is_answered_as_by_transformers(name: str) -> None:
    image, loaded = picture("demo.jpg"), model(name)
    assert say(loaded, image, OPT.question_prompt("which city is this?"), GREEDY) == CITIES_OF_THE_BEACH[name]


def test_the_largest_knows_the_city_of_the_merlion() -> None:
    image, loaded = picture("merlion.png"), model("Salesforce/blip2-flan-t5-xxl")
    assert say(loaded, image, OPT.question_prompt("which city is this?"), BEAMS) == "singapore"


def test_the_beach_matches_its_caption_as_transformers_says() -> None:
    name = "Salesforce/blip2-itm-vit-g"
    image = picture("demo.jpg")
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        pytest.skip(f"the weights of {name} are not in the hub's local cache")
    settings = Settings(model="none", retrieval_model=name)
    tasks = Tasks(None, settings, load_retrieval_model(settings, folder, None))
    file = io.BytesIO()
    image.save(file, "PNG")
    text = "A woman and her dog sitting in a beach"
    (match,) = asyncio.run(tasks.retrieval.match(Upload(file.getvalue()), [text])).matches
    tasks.close()
    assert (match.itm, match.itc) == (pytest.approx(0.9762, abs=2e-3), pytest.approx(0.4406, abs=2e-3))


def test_the_ids_of_the_beach_are_those_of_transformers() -> None:
    image, loaded = picture("demo.jpg"), model("Salesforce/blip2-opt-2.7b")
    assert Reference(loaded).generate(image, loaded.encode_text(""), GREEDY).ids == GREEDY_IDS_OF_THE_BEACH
