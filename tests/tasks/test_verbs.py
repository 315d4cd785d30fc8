"""The product's verbs on a real engine, without HTTP, compared with the reference."""

import asyncio
import dataclasses
import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.errors import Busy, DeadlineExceeded, InvalidImage, PromptTooLong, UnknownImage, UrlNotAllowed
from blip2_serve.images import ImageId, ImageSource, ImageUrl, Upload
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.reference import Reference
from blip2_serve.options import MAX_NUM_BEAMS, DecodingOptions
from blip2_serve.tasks.completion import Answer, OutputOptions
from blip2_serve.tasks.verbs import Tasks
from support.pictures import jpeg
from support.tiny import save_tiny_checkpoint

GREEDY = DecodingOptions(max_new_tokens=6, num_beams=1)
BEAMS = DecodingOptions(max_new_tokens=6)


@pytest.fixture(scope="module", params=["opt", "t5", "instructblip"])
def loaded(request: pytest.FixtureRequest, tiny_models: dict[str, LoadedModel]) -> LoadedModel:
    return tiny_models[request.param]


def expected(loaded: LoadedModel, prompt: str | None, options: DecodingOptions) -> str:
    """Return the reference's answer to a prompt, by default a caption's."""
    prompt = loaded.caption_prompt if prompt is None else prompt
    image = Image.open(io.BytesIO(jpeg())).convert("RGB")
    ids, instruction_ids = loaded.encode_text(prompt), loaded.encode_instruction(prompt)
    return loaded.decode_text(Reference(loaded).generate(image, ids, options, instruction_ids).ids).strip()


@pytest.mark.parametrize("options", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_every_verb_gives_the_answer_of_the_reference(
    loaded: LoadedModel, tasks: Tasks, options: DecodingOptions
) -> None:
    async def ask() -> list[str]:
        answers = await asyncio.gather(
            tasks.caption(Upload(jpeg()), None, options),
            tasks.ask(Upload(jpeg()), "what?", options),
            tasks.chat(Upload(jpeg()), "why?", [("what?", "a cat")], options),
        )
        return [answer.text for answer in answers]

    family = loaded.family
    prompts = [family.caption_prompt, family.question_prompt("what?"), family.chat_prompt([("what?", "a cat")], "why?")]
    assert asyncio.run(ask()) == [expected(loaded, prompt, options) for prompt in prompts]


def test_questions_are_stripped_and_those_that_are_prompts_are_not_put_again(loaded: LoadedModel, tasks: Tasks) -> None:
    async def ask() -> list[str]:
        answers = await asyncio.gather(
            tasks.ask(Upload(jpeg()), " what?\n", GREEDY),
            tasks.chat(Upload(jpeg()), "\twhy? ", [(" what? ", "a cat")], GREEDY),
            tasks.ask(Upload(jpeg()), " Question: what? Answer: ", GREEDY),
        )
        return [answer.text for answer in answers]

    family = loaded.family
    prompts = [family.question_prompt("what?"), family.chat_prompt([("what?", "a cat")], "why?")]
    assert asyncio.run(ask()) == [expected(loaded, each, GREEDY) for each in (*prompts, "Question: what? Answer:")]


def test_a_prefix_is_taken_with_its_spaces_and_told_where_it_is_asked_for(loaded: LoadedModel, tasks: Tasks) -> None:
    echoed = asyncio.run(tasks.caption(Upload(jpeg()), "a cat  on ", GREEDY)).text
    alone = asyncio.run(tasks.caption(Upload(jpeg()), "a cat  on ", GREEDY, OutputOptions(echoes=False))).text
    continuation = expected(loaded, "a cat  on ", GREEDY)
    assert alone == continuation
    if loaded.family.decoder_only:
        assert echoed.startswith("a cat  on ")
        assert echoed.removeprefix("a cat  on ").strip() == continuation
    else:
        assert echoed == continuation


def test_a_guarded_answer_that_loops_is_the_references_with_the_guard(loaded: LoadedModel, tasks: Tasks) -> None:
    long = DecodingOptions(max_new_tokens=40, num_beams=1)
    kinds = set()
    for question in ("what?", "why?", "where is it?", "who?"):
        plain = asyncio.run(tasks.ask(Upload(jpeg()), question, long))
        answer = asyncio.run(tasks.ask(Upload(jpeg()), question, long, OutputOptions(guards=True)))
        if answer.guards == ("no_repeat_ngram_size",):
            guarded = dataclasses.replace(long, no_repeat_ngram_size=3)
            assert answer.text == expected(loaded, loaded.family.question_prompt(question), guarded) != plain.text
        else:
            assert (answer.guards, answer.text) == ((), plain.text)
        kinds.add(answer.guards)
    assert ("no_repeat_ngram_size",) in kinds, "nothing loops: the comparison proves nothing"


def test_a_checkpoints_own_prompt_is_replaced_and_never_echoed(tiny_models: dict[str, LoadedModel]) -> None:
    coco = dataclasses.replace(tiny_models["opt"], caption_prompt="a photo of")
    tasks = Tasks(coco, Settings(max_rows=16))
    try:
        own = asyncio.run(tasks.caption(Upload(jpeg()), None, GREEDY)).text
        assert own == expected(coco, "a photo of", GREEDY)
        assert asyncio.run(tasks.caption(Upload(jpeg()), "hi", GREEDY)).text.startswith("hi")
    finally:
        tasks.close()


def test_rows_that_another_checkpoint_of_the_same_name_computed_are_not_taken(
    tmp_path: Path,
) -> None:
    settings = Settings(model=str(tmp_path / "model"), device="cpu", image_cache_dir=str(tmp_path / "cache"))
    for seed in (0, 1):
        loaded = load_model(settings, save_tiny_checkpoint(tmp_path / "model", "opt", seed=seed))
        tasks = Tasks(loaded, settings)
        try:
            assert asyncio.run(tasks.caption(Upload(jpeg()), None, BEAMS)).text == expected(
                loaded, loaded.caption_prompt, BEAMS
            )
        finally:
            tasks.close()


def test_a_picture_is_asked_about_again_by_its_id(loaded: LoadedModel, tasks: Tasks) -> None:
    async def ask() -> tuple[Answer, Answer]:
        first = await tasks.caption(Upload(jpeg(seed=5)), None, GREEDY)
        known = ImageId(bytes.fromhex(first.image_id))
        return first, await tasks.caption(known, None, GREEDY)

    first, again = asyncio.run(ask())
    assert first.image_id == again.image_id == hashlib.sha256(jpeg(seed=5)).hexdigest()
    assert again.text == first.text


def test_an_id_that_was_never_given_is_unknown(tasks: Tasks) -> None:
    with pytest.raises(UnknownImage, match="send the picture again"):
        asyncio.run(tasks.caption(ImageId(b"\0" * 32), None, GREEDY))


def test_the_folder_knows_a_picture_after_a_restart_and_for_its_own_checkpoint_only(
    tmp_path: Path,
) -> None:
    settings = Settings(model=str(tmp_path / "model"), device="cpu", image_cache_dir=str(tmp_path / "cache"))
    loaded = load_model(settings, save_tiny_checkpoint(tmp_path / "model", "opt", seed=0))
    first = _ask_new_tasks(loaded, settings, Upload(jpeg()))
    known = ImageId(bytes.fromhex(first.image_id))
    assert _ask_new_tasks(loaded, settings, known).text == first.text
    other = load_model(settings, save_tiny_checkpoint(tmp_path / "model", "opt", seed=1))
    with pytest.raises(UnknownImage):
        _ask_new_tasks(other, settings, known)


def _ask_new_tasks(loaded: LoadedModel, settings: Settings, image: ImageSource) -> Answer:
    tasks = Tasks(loaded, settings)
    try:
        return asyncio.run(tasks.caption(image, None, GREEDY))
    finally:
        tasks.close()


def test_urls_are_off_unless_they_are_switched_on(tasks: Tasks) -> None:
    with pytest.raises(UrlNotAllowed, match="BLIP2_IMAGE_URLS"):
        asyncio.run(tasks.caption(ImageUrl("https://example.com/a.jpg"), None, GREEDY))


def test_a_text_that_does_not_fit_is_refused_before_the_picture_is_read(tasks: Tasks) -> None:
    with pytest.raises(PromptTooLong, match="512"):
        asyncio.run(tasks.ask(Upload(b"no picture"), "x" * 600, GREEDY))


def test_a_bad_picture_hurts_only_its_own_request(loaded: LoadedModel, tasks: Tasks) -> None:
    async def ask() -> tuple[object, object]:
        bad, good = await asyncio.gather(
            tasks.caption(Upload(b""), None, GREEDY),
            tasks.caption(Upload(jpeg()), None, GREEDY),
            return_exceptions=True,
        )
        return bad, good

    bad, good = asyncio.run(ask())
    assert isinstance(bad, InvalidImage)
    assert getattr(good, "text", None) == expected(loaded, None, GREEDY)


def test_a_deadline_ends_a_request_with_its_own_error(loaded: LoadedModel) -> None:
    tasks = Tasks(loaded, Settings(max_rows=16, deadline_s=0.001))
    try:
        with pytest.raises(DeadlineExceeded):
            asyncio.run(tasks.caption(Upload(jpeg()), None, GREEDY))
    finally:
        tasks.close()


def test_the_fewest_rows_that_can_be_set_are_enough_for_the_most_beams(loaded: LoadedModel) -> None:
    tasks = Tasks(loaded, Settings(max_rows=16))
    try:
        asyncio.run(tasks.warm_up())
        most = DecodingOptions(max_new_tokens=4, num_beams=MAX_NUM_BEAMS)
        assert asyncio.run(tasks.caption(Upload(jpeg()), None, most)).text == expected(
            loaded, loaded.caption_prompt, most
        )
    finally:
        tasks.close()


def test_a_full_queue_says_busy(loaded: LoadedModel) -> None:
    tasks = Tasks(loaded, Settings(max_rows=16, max_queue=2))

    async def flood() -> list[object]:
        calls = (tasks.caption(Upload(jpeg(seed=seed)), None, GREEDY) for seed in range(12))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    try:
        outcomes = asyncio.run(flood())
    finally:
        tasks.close()
    busy = [outcome for outcome in outcomes if isinstance(outcome, Busy)]
    assert 0 < len(busy) < 12
    assert all(getattr(outcome, "text", None) is not None for outcome in outcomes if outcome not in busy)
    assert busy[0].retry_after_s > 0
