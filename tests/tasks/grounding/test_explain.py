"""The support of a text's words by a picture, against transformers' log-probabilities of the same texts."""

import asyncio
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.errors import PromptTooLong, UnknownModel
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.models import load_models
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.grounding.blank import blank_pictures
from blip2_serve.tasks.verbs import Tasks

TEXTS = ["a red circle", "  two   words ", "x"]


def tasks_of(caption: Path | str, retrieval: Path) -> tuple[Tasks, LoadedModel]:
    settings = Settings(model=str(caption), retrieval_model=str(retrieval), device="cpu", max_rows=16)
    loaded = load_models(settings)
    assert loaded.caption is not None
    return Tasks(loaded.caption, settings, loaded.retrieval), loaded.caption


@pytest.fixture(scope="module", params=["opt", "t5", "instructblip"])
def pair(
    request: pytest.FixtureRequest, tiny_checkpoints: dict[str, Path], tiny_retrieval_checkpoint: Path
) -> Iterator[tuple[Tasks, LoadedModel]]:
    tasks, loaded = tasks_of(tiny_checkpoints[request.param], tiny_retrieval_checkpoint)
    yield tasks, loaded
    tasks.close()


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8))


def upload() -> Upload:
    file = io.BytesIO()
    picture().save(file, "PNG")
    return Upload(file.getvalue())


def expected_sum(loaded: LoadedModel, text: str) -> float:
    """The support of a whole text: log-probability given the picture, less that given the mean of blank ones."""
    reference, side = Reference(loaded), loaded.image_size
    prompt = loaded.encode_text(loaded.caption_prompt)
    ids = loaded.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    blanks = blank_pictures(side, loaded.image_processor.image_mean)
    images = [Image.frombytes("RGB", (side, side), pixels) for pixels in blanks]
    seen = reference.score(picture(), prompt, ids, loaded.encode_instruction(loaded.caption_prompt))
    unseen = [reference.score(image, prompt, ids, loaded.encode_instruction(loaded.caption_prompt)) for image in images]
    without = [math.log(sum(math.exp(number) for number in each) / len(each)) for each in zip(*unseen, strict=True)]
    return sum(seen) - sum(without)


def test_supports_are_those_of_transformers(pair: tuple[Tasks, LoadedModel]) -> None:
    tasks, loaded = pair
    matches = asyncio.run(tasks.retrieval.match(upload(), TEXTS, tasks.explainer)).matches
    for match in matches:
        assert match.words is not None
        assert [word.word for word in match.words] == match.text.split()
        total = sum(word.support for word in match.words)
        assert total == pytest.approx(expected_sum(loaded, match.text.strip()), abs=1e-4)


def test_captions_are_explained(pair: tuple[Tasks, LoadedModel]) -> None:
    tasks, _ = pair
    options = DecodingOptions(num_beams=3, max_new_tokens=6)
    made = asyncio.run(tasks.caption_several(upload(), None, 3, options, explains=True)).captions
    for caption in made:
        assert caption.words is not None
        assert caption.unsupported is not None
        assert [word.word for word in caption.words] == caption.text.split()
        assert set(caption.unsupported) <= set(caption.text.split())


def test_a_text_that_does_not_fit_is_refused(pair: tuple[Tasks, LoadedModel]) -> None:
    tasks, _ = pair
    explaining = tasks.explainer._prompts
    with pytest.raises(PromptTooLong, match="can be explained"):
        explaining.captions(["a " * 300])


def test_without_a_model_that_writes_text_nothing_is_explained(tiny_retrieval_checkpoint: Path) -> None:
    settings = Settings(model="none", retrieval_model=str(tiny_retrieval_checkpoint), device="cpu")
    silent = Tasks(None, settings, load_models(settings).retrieval)
    try:
        with pytest.raises(UnknownModel, match="no model that writes text"):
            _ = silent.explainer
    finally:
        silent.close()


def test_blank_pictures_are_always_the_same_and_have_the_size_of_the_model() -> None:
    first, again = (blank_pictures(30, (0.5, 0.4, 0.3)) for _ in range(2))
    assert first == again
    assert [len(each) for each in first] == [30 * 30 * 3] * 3
    assert set(first[0]) == {128, 102, 76}
    assert len(np.unique(np.frombuffer(first[2], np.uint8).reshape(-1, 3), axis=0)) == 4
