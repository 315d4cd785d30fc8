"""Several captions: scores are those of transformers, and captions that loop or are empty are made again."""

import asyncio
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.engine.messages import FinishedRow
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.guards import loops
from blip2_serve.tasks.scored.captions import Reading, ScoredCaption, score_captions, several
from blip2_serve.tasks.verbs import Tasks
from support.pictures import jpeg

DEMO_PICTURE = Path(__file__).parent.parent.parent.parent / "demo.jpeg"
SAMPLING = DecodingOptions(do_sample=True, num_beams=1, temperature=4.0, seed=4)


@pytest.fixture(scope="module", params=["demo", "tiny opt", "tiny t5"])
def loaded(request: pytest.FixtureRequest, tiny_models: dict[str, LoadedModel]) -> LoadedModel:
    if request.param == "demo":
        settings = Settings(model="demo", device="cpu", dtype="float32")
        return load_model(settings, locate_checkpoint(settings))
    return tiny_models[request.param.removeprefix("tiny ")]


def caption(tasks: Tasks, data: bytes, num_captions: int, options: DecodingOptions) -> list[ScoredCaption]:
    return asyncio.run(tasks.caption_several(Upload(data), None, num_captions, options)).captions


def max_new_tokens(loaded: LoadedModel) -> int:
    """Room for a whole caption of the demo checkpoint; random weights begin to loop, which the guards would change."""
    return 20 if loaded.name == "demo" else 7


def transformers_scores(loaded: LoadedModel, data: bytes, num_captions: int, num_beams: int) -> dict[str, float]:
    """Make captions by `generate`, with their mean raw log-probability, from `compute_transition_scores`."""
    model = loaded.model
    ids = [model.config.image_token_index] * loaded.num_query_tokens + loaded.encode_text("")
    image = Image.open(io.BytesIO(data)).convert("RGB")
    out = model.generate(
        pixel_values=loaded.image_processor(image, return_tensors="pt")["pixel_values"],
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        max_new_tokens=max_new_tokens(loaded),
        num_beams=num_beams,
        num_return_sequences=num_captions,
        length_penalty=1.0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    scores = model.compute_transition_scores(out.sequences, out.logits, out.beam_indices, normalize_logits=True)
    lengths = (out.beam_indices >= 0).sum(dim=1)
    new_ids = out.sequences[:, len(ids) if loaded.family.decoder_only else 1 :]
    rows = zip(new_ids, scores, lengths.tolist(), strict=True)
    found = [
        (loaded.decode_text(row[:length].tolist()).strip(), row_scores[:length]) for row, row_scores, length in rows
    ]
    best: dict[str, float] = {}
    for text, row_scores in found:
        best[text] = max(row_scores.mean().item(), best.get(text, -math.inf))
    return best


@pytest.mark.parametrize(("num_captions", "num_beams"), [(5, 5), (3, 8)])
def test_scores_are_those_of_transformers(loaded: LoadedModel, tasks: Tasks, num_captions: int, num_beams: int) -> None:
    pictures = [DEMO_PICTURE.read_bytes(), jpeg(seed=1), jpeg(seed=2)]
    num_compared = 0
    for data in pictures:
        expected = transformers_scores(loaded, data, num_captions, num_beams)
        options = DecodingOptions(max_new_tokens=max_new_tokens(loaded), num_beams=num_beams)
        captions = caption(tasks, data, num_captions, options)
        plain = [each for each in captions if not each.guards]
        for each in plain:
            assert each.score == pytest.approx(expected[each.text], abs=1e-4)
            assert each.probability == pytest.approx(math.exp(expected[each.text]), abs=1e-4)
        num_compared += len(plain)
        if len(plain) == len(captions):
            assert {each.text for each in captions} == set(expected)
        assert [each.score for each in captions] == sorted((each.score for each in captions), reverse=True)
    assert num_compared > num_captions


def test_samples_differ_and_each_text_comes_once(tasks: Tasks) -> None:
    captions = caption(tasks, DEMO_PICTURE.read_bytes(), 8, SAMPLING)
    assert 1 < len(captions) == len({each.text for each in captions}) <= 8


def test_company_changes_no_score(loaded: LoadedModel, tasks: Tasks) -> None:
    options = DecodingOptions(max_new_tokens=12)
    alone = [caption(tasks, jpeg(seed=seed), 3, options) for seed in range(4)]

    async def at_once() -> list[list[ScoredCaption]]:
        calls = (tasks.caption_several(Upload(jpeg(seed=seed)), None, 3, options) for seed in range(4))
        return [made.captions for made in await asyncio.gather(*calls)]

    for one, other in zip(alone, asyncio.run(at_once()), strict=True):
        assert [each.text for each in one] == [each.text for each in other]
        assert [each.score for each in one] == pytest.approx([each.score for each in other], abs=1e-5)


def test_a_caption_that_loops_is_made_again_with_no_repeat_ngram_size(tiny_models: dict[str, LoadedModel]) -> None:
    loaded = tiny_models["t5"]
    tasks, reference = Tasks(loaded, Settings(max_rows=16)), Reference(loaded)
    greedy = DecodingOptions(num_beams=1, max_new_tokens=120)
    guarded = dataclasses.replace(greedy, no_repeat_ngram_size=3)
    kinds = set()
    try:
        for seed in range(4):
            image = Image.open(io.BytesIO(jpeg(seed=seed))).convert("RGB")
            is_loop = loops(reference.generate(image, loaded.encode_text(""), greedy).ids)
            expected = reference.generate(image, loaded.encode_text(""), guarded if is_loop else greedy)
            (made,) = caption(tasks, jpeg(seed=seed), 1, greedy)
            assert made.guards == (("no_repeat_ngram_size",) if is_loop else ())
            assert (made.text, made.num_tokens) == (loaded.decode_text(expected.ids).strip(), len(expected.ids))
            kinds.add(is_loop)
    finally:
        tasks.close()
    assert True in kinds, "nothing loops: the comparison proves nothing"


def test_an_empty_caption_is_made_again_with_a_token(tiny_checkpoints: dict[str, Path]) -> None:
    path = tiny_checkpoints["t5"]
    loaded = load_model(Settings(model=str(path)), path)
    end_id = loaded.model.config.text_config.eos_token_id
    loaded.model.language_model.lm_head.weight.data[end_id] *= 6
    greedy = DecodingOptions(num_beams=1, max_new_tokens=8)
    tasks, num_empty = Tasks(loaded, Settings(max_rows=16)), 0
    try:
        for seed in range(6):
            image = Image.open(io.BytesIO(jpeg(seed=seed))).convert("RGB")
            is_empty = Reference(loaded).generate(image, loaded.encode_text(""), greedy).ids == [end_id]
            (made,) = caption(tasks, jpeg(seed=seed), 1, greedy)
            assert ("min_new_tokens" in made.guards) == is_empty
            assert made.text
            num_empty += is_empty
    finally:
        tasks.close()
    assert num_empty


def completion(text: str, score: float) -> FinishedRow:
    """Make a completion whose ids are its letters."""
    return FinishedRow(tuple(map(ord, text)), (score,) * len(text), score, None, "stop")


def made_of(
    *answers: list[tuple[str, float]], guards: bool = True, **fields: Any
) -> tuple[list[ScoredCaption], list[DecodingOptions]]:
    """Score captions of a model that gives `answers` in turn; returns them, and the options it was asked with."""
    asked: list[DecodingOptions] = []

    async def ask(options: DecodingOptions) -> list[FinishedRow]:
        asked.append(options)
        return [completion(text, score) for text, score in answers[len(asked) - 1]]

    def read(said: FinishedRow) -> str:
        return "".join(map(chr, said.ids)).strip()

    return asyncio.run(score_captions(ask, Reading(read, read), DecodingOptions(**fields), guards=guards)), asked


LOOP = "abcabcabc"


def test_unguarded_a_faulty_caption_stays() -> None:
    captions, asked = made_of([(LOOP, -0.1), ("", -0.5)], guards=False)
    assert ([each.text for each in captions], len(asked)) == ([LOOP, ""], 1)


def test_of_equal_texts_the_best_stays() -> None:
    captions, asked = made_of([("b", -2.0), ("a", -1.0), ("b ", -0.5)])
    assert [(each.text, each.score) for each in captions] == [("b", -0.5), ("a", -1.0)]
    assert len(asked) == 1


def test_a_faulty_caption_gives_way_to_the_first_new_one_of_one_more_request() -> None:
    captions, asked = made_of([("good", -0.5), (LOOP, -0.1)], [("good", -0.5), ("new", -1.0), ("newer", -0.2)])
    assert [(each.text, each.guards) for each in captions] == [("good", ()), ("new", ("no_repeat_ngram_size",))]
    assert [options.no_repeat_ngram_size for options in asked] == [0, 3]
    assert asked[1] == dataclasses.replace(asked[0], no_repeat_ngram_size=3)


def test_both_guards_act_in_one_request() -> None:
    captions, asked = made_of([(" ", -0.5), (LOOP, -0.1)], [("x", -1.0), ("y", -2.0)])
    assert {each.guards for each in captions} == {("min_new_tokens", "no_repeat_ngram_size")}
    assert (asked[1].min_new_tokens, asked[1].no_repeat_ngram_size, len(asked)) == (1, 3, 2)


def test_what_is_still_empty_although_tokens_were_asked_for_stays() -> None:
    captions, asked = made_of([(" ", -0.5)], min_new_tokens=1)
    assert [each.text for each in captions] == [""]
    assert len(asked) == 1


def test_the_beams_rise_to_the_captions_and_samples_are_rows() -> None:
    assert several(DecodingOptions(num_beams=1), 4).num_beams == 4
    assert several(DecodingOptions(num_beams=5), 4).num_beams == 5
    assert (several(SAMPLING, 4).num_beams, several(SAMPLING, 4).num_return_sequences) == (1, 4)
