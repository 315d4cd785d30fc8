"""The retrieval verbs on the real engine, against transformers' processor and model."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Blip2ForImageTextRetrieval, Blip2Processor

from blip2_serve.config import Settings
from blip2_serve.errors import Blip2Error, InvalidField, InvalidImage, PromptTooLong, UnknownImage, UnknownModel
from blip2_serve.images import ImageId, Upload
from blip2_serve.model.models import load_models
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.retrieval.verbs import ImageVectors, Match, mean_vector
from blip2_serve.tasks.verbs import Tasks

TEXTS = [f"a text with {'many ' * number}words" for number in range(9)]
GREEDY = DecodingOptions(num_beams=1, max_new_tokens=8)


def tasks_of(caption: Path | str, retrieval: Path | str) -> Tasks:
    settings = Settings(model=str(caption), retrieval_model=str(retrieval), device="cpu", max_rows=16)
    loaded = load_models(settings)
    return Tasks(loaded.caption, settings, loaded.retrieval)


@pytest.fixture(scope="module")
def tasks(tiny_checkpoints: dict[str, Path], tiny_retrieval_checkpoint: Path) -> Iterator[Tasks]:
    running = tasks_of(tiny_checkpoints["opt"], tiny_retrieval_checkpoint)
    yield running
    running.close()


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def upload(seed: int) -> Upload:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return Upload(file.getvalue())


@torch.inference_mode()
def asked_transformers(folder: Path, seed: int, texts: list[str]) -> list[Match]:
    model = Blip2ForImageTextRetrieval.from_pretrained(folder).eval()
    processor = Blip2Processor.from_pretrained(folder)
    matches = []
    for text in texts:
        inputs = processor(images=picture(seed), text=text, return_tensors="pt")
        logits = model(**inputs, use_image_text_matching_head=True).logits_per_image[0]
        cosine = model(**inputs, use_image_text_matching_head=False).logits_per_image[0, 0]
        matches.append(Match(text, logits.softmax(0)[1].item(), logits[1].item(), cosine.item()))
    return matches


def numbers(matches: list[Match]) -> list[tuple[float, float, float]]:
    return [(match.itm, match.itm_logit, match.itc) for match in matches]


def test_matches_are_those_of_transformers(tasks: Tasks, tiny_retrieval_checkpoint: Path) -> None:
    ours = asyncio.run(tasks.retrieval.match(upload(0), TEXTS)).matches
    theirs = asked_transformers(tiny_retrieval_checkpoint, 0, TEXTS)
    assert [match.text for match in ours] == TEXTS
    np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=0, atol=1e-5)


def test_256_texts_are_matched_in_the_order_given(tasks: Tasks) -> None:
    texts = [f"text {number}" for number in range(256)]
    ours = asyncio.run(tasks.retrieval.match(upload(0), texts)).matches
    alone = asyncio.run(tasks.retrieval.match(upload(0), texts[250:251])).matches
    assert [match.text for match in ours] == texts
    np.testing.assert_allclose(numbers(ours[250:251]), numbers(alone), rtol=0, atol=1e-5)


def test_many_pictures_are_matched_with_one_text(tasks: Tasks) -> None:
    together = asyncio.run(tasks.retrieval.match_many([upload(seed) for seed in range(20)], TEXTS[1]))
    alone = asyncio.run(tasks.retrieval.match(upload(13), TEXTS[1:2])).matches
    np.testing.assert_allclose(numbers(together[13:14]), numbers(alone), rtol=0, atol=1e-5)


def test_a_damaged_picture_among_many_is_named(tasks: Tasks) -> None:
    with pytest.raises(Blip2Error) as caught:
        asyncio.run(tasks.retrieval.match_many([upload(1), Upload(b"\x89PNG not one")], "a"))
    assert caught.value.about == "documents.1"


def test_vectors_give_the_cosines_of_matching(tasks: Tasks) -> None:
    async def both() -> None:
        seen = (await tasks.retrieval.embed_images([upload(4)]))[0]
        assert isinstance(seen, ImageVectors)
        texts = await tasks.retrieval.embed_texts(TEXTS)
        matches = (await tasks.retrieval.match(ImageId(bytes.fromhex(seen.image_id)), TEXTS)).matches
        cosines = (seen.vectors @ texts.vectors.T).max(axis=0)
        np.testing.assert_allclose(cosines, [match.itc for match in matches], rtol=0, atol=1e-5)
        pooled = mean_vector(seen.vectors)
        assert pooled.shape == (1, tasks.retrieval.width)
        assert np.linalg.norm(pooled) == pytest.approx(1, abs=1e-6)

    asyncio.run(both())


def test_a_damaged_picture_gives_its_error_in_place_of_vectors(tasks: Tasks) -> None:
    good, bad, wrong = asyncio.run(
        tasks.retrieval.embed_images([upload(1), Upload(b"\x89PNG\r\n\x1a\nnot one"), InvalidImage("no picture")])
    )
    assert isinstance(good, ImageVectors)
    assert isinstance(bad, Blip2Error)
    assert isinstance(wrong, InvalidImage)


def test_a_text_longer_than_the_model_reads_is_refused_and_named(tasks: Tasks) -> None:
    with pytest.raises(PromptTooLong, match="Text 1 takes 66 tokens and the model reads 64"):
        asyncio.run(tasks.retrieval.embed_texts(["a", "b " * 64]))


def test_a_picture_that_was_never_sent_is_unknown(tasks: Tasks) -> None:
    with pytest.raises(UnknownImage):
        asyncio.run(tasks.retrieval.match(ImageId(bytes(32)), ["a"]))


def test_captions_say_how_well_they_match_and_rank_by_it(tasks: Tasks) -> None:
    options = DecodingOptions(
        do_sample=True, num_beams=1, temperature=5.0, top_k=0, top_p=1.0, max_new_tokens=8, seed=1
    )

    async def captions(rank_by: str) -> list[tuple[float, str]]:
        made = await tasks.caption_several(upload(3), None, 6, options, rank_by)  # type: ignore[arg-type]
        matches = (await tasks.retrieval.match(ImageId(bytes.fromhex(made.image_id)), ["x"])).matches
        assert len(matches) == 1
        assert all(caption.itm is not None and caption.itc is not None for caption in made.captions)
        return [(caption.itm or 0.0, caption.text) for caption in made.captions]

    likely, matching = asyncio.run(captions("likelihood")), asyncio.run(captions("itm"))
    assert {text for _, text in likely} == {text for _, text in matching}
    assert [text for _, text in likely] != [text for _, text in matching]
    compared = asyncio.run(tasks.retrieval.match(upload(3), [text or "[PAD]" for _, text in matching])).matches
    ranks = [match.itm_logit + match.itc for match in compared]
    assert ranks == sorted(ranks, reverse=True)


def test_ranking_by_a_model_that_is_not_there_is_refused(tiny_checkpoints: dict[str, Path]) -> None:
    lonely = tasks_of(tiny_checkpoints["opt"], "off")
    try:
        with pytest.raises(InvalidField, match="BLIP2_RETRIEVAL_MODEL"):
            asyncio.run(lonely.caption_several(upload(3), None, 2, GREEDY, "itm"))
        with pytest.raises(UnknownModel, match="BLIP2_RETRIEVAL_MODEL"):
            _ = lonely.retrieval
        made = asyncio.run(lonely.caption_several(upload(3), None, 2, GREEDY))
        assert [caption.itm for caption in made.captions] == [None] * len(made.captions)
    finally:
        lonely.close()


def test_without_a_model_that_writes_text_every_verb_for_text_says_so(tiny_retrieval_checkpoint: Path) -> None:
    silent = tasks_of("none", tiny_retrieval_checkpoint)
    try:
        asyncio.run(silent.warm_up())
        assert silent.model_name == "tiny-itm"
        for asked in (silent.caption(upload(0), None, GREEDY), silent.choose(upload(0), None, ["a", "b"])):
            with pytest.raises(UnknownModel, match="no model that writes text"):
                asyncio.run(asked)
        with pytest.raises(UnknownModel):
            _ = silent.family
    finally:
        silent.close()
