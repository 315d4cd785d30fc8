"""Many pictures of one caller: in order, a bounded number at once, each with its own error, given up together."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.errors import Blip2Error, Busy, DeadlineExceeded, EngineDead, InvalidImage, Part
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.batch import MAX_AT_ONCE, answer_each, places, together
from blip2_serve.tasks.completion import Answer
from blip2_serve.tasks.verbs import BatchTask, Tasks
from support.pictures import jpeg

GREEDY = DecodingOptions(max_new_tokens=6, num_beams=1)
LONG = DecodingOptions(max_new_tokens=256, min_new_tokens=256, num_beams=1)


@pytest.fixture(scope="module", params=["opt", "t5"])
def loaded(request: pytest.FixtureRequest, tiny_models: dict[str, LoadedModel]) -> LoadedModel:
    return tiny_models[request.param]


@pytest.fixture
def tasks(loaded: LoadedModel) -> Iterator[Tasks]:
    running = Tasks(loaded, Settings(max_rows=64))
    yield running
    running.close()


def batch(
    tasks: Tasks, images: list[Upload | Blip2Error], texts: list[str | None], task: BatchTask = "caption"
) -> list[Answer | Blip2Error]:
    return asyncio.run(tasks.batch(images, texts, task, GREEDY))


def expected(loaded: LoadedModel, seed: int, prompt: str) -> str:
    image = Image.open(io.BytesIO(jpeg(seed=seed))).convert("RGB")
    return loaded.decode_text(Reference(loaded).generate(image, loaded.encode_text(prompt), GREEDY).ids).strip()


def test_answers_come_in_order_and_are_those_of_the_reference(loaded: LoadedModel, tasks: Tasks) -> None:
    questions = [f"what {letter}?" for letter in "abcdef"]
    results = batch(tasks, [Upload(jpeg(seed=seed)) for seed in range(6)], list(questions), "vqa")
    prompts = [loaded.family.question_prompt(question) for question in questions]
    answers = [expected(loaded, seed, prompt) for seed, prompt in enumerate(prompts)]
    assert [result.text for result in results if isinstance(result, Answer)] == answers
    assert len(set(answers)) > 1


def test_a_picture_is_named_by_its_bytes(tasks: Tasks) -> None:
    (result,) = batch(tasks, [Upload(jpeg())], [None])
    assert isinstance(result, Answer)
    assert result.image_id == hashlib.sha256(jpeg()).hexdigest()


def test_a_bad_picture_is_an_entry_and_the_others_are_answered(loaded: LoadedModel, tasks: Tasks) -> None:
    refused = InvalidImage("img is no string: send it.", about=Part.IMAGE)
    images = [Upload(b""), Upload(jpeg()), refused, Upload(b"hello"), Upload(jpeg(seed=1))]
    results = batch(tasks, images, [None] * 5)
    codes = [result.code if isinstance(result, Blip2Error) else result.text for result in results]
    answers = [expected(loaded, seed, "") for seed in (0, 1)]
    assert codes == ["invalid_image", answers[0], "invalid_image", "unsupported_image", answers[1]]


def test_a_picture_may_not_have_more_bytes_than_one_that_is_sent_alone(loaded: LoadedModel) -> None:
    tasks = Tasks(loaded, Settings(max_rows=16, max_request_bytes=len(jpeg()) + 100))
    try:
        good, large = batch(tasks, [Upload(jpeg()), Upload(jpeg() + b"x" * 101)], [None, None])
    finally:
        tasks.close()
    assert isinstance(good, Answer)
    assert isinstance(large, Blip2Error)
    assert (large.status, large.about) == (413, Part.IMAGE)


def test_the_deadline_is_that_of_the_whole_request(loaded: LoadedModel) -> None:
    tasks = Tasks(loaded, Settings(max_rows=16, deadline_s=0.02))
    try:
        results = batch(tasks, [Upload(jpeg(600, 400, seed)) for seed in range(64)], [None] * 64)
    finally:
        tasks.close()
    assert isinstance(results[-1], DeadlineExceeded)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  (nobody tells when)
        await asyncio.sleep(0.002)


def test_a_vanished_caller_takes_all_its_pictures_along(tasks: Tasks) -> None:
    async def leave() -> int:
        images: list[Upload | Blip2Error] = [Upload(jpeg(seed=seed)) for seed in range(40)]
        batch = asyncio.ensure_future(tasks.batch(images, [None] * 40, "caption", LONG))
        await until(lambda: tasks._runtime.engine.stats().num_running == MAX_AT_ONCE)
        batch.cancel()
        await asyncio.wait([batch])
        await until(lambda: tasks._runtime.engine.stats().num_rows == 0)
        return tasks._runtime.engine.stats().num_images_encoded

    assert asyncio.run(leave()) == MAX_AT_ONCE


def test_other_callers_are_answered_while_a_batch_runs(tasks: Tasks) -> None:
    async def ask() -> bool:
        images: list[Upload | Blip2Error] = [Upload(jpeg(seed=seed)) for seed in range(64)]
        batch = asyncio.ensure_future(tasks.batch(images, [None] * 64, "caption", LONG))
        await asyncio.sleep(0.05)
        await tasks.caption(Upload(jpeg(seed=99)), None, GREEDY)
        was_first = not batch.done()
        batch.cancel()
        return was_first

    assert asyncio.run(ask())


@pytest.mark.parametrize(("max_queue", "at_once"), [(1024, 16), (20, 5), (1, 1)])
def test_a_batch_leaves_most_of_the_queue_to_others(max_queue: int, at_once: int) -> None:
    most = running = 0

    async def ask(item: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return item

    async def answer() -> list[int | Blip2Error]:
        return await answer_each(range(40), ask, places(max_queue))

    assert asyncio.run(answer()) == list(range(40))
    assert most == at_once


async def say(outcome: object) -> object:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def results_of(*outcomes: object) -> list[object]:
    async def answer() -> list[object]:
        return list(await answer_each(outcomes, say, places(8)))

    return asyncio.run(answer())


def test_where_nobody_finds_a_place_the_whole_request_is_told_so() -> None:
    busy = Busy("full", retry_after_s=1.0)
    assert results_of(busy, "text") == [busy, "text"]
    with pytest.raises(Busy):
        results_of(busy, busy)


def test_a_dead_engine_and_a_bug_end_the_whole_request() -> None:
    with pytest.raises(EngineDead):
        results_of("text", EngineDead("stopped"), "text")
    with pytest.raises(ZeroDivisionError):
        results_of("text", ZeroDivisionError())


def test_what_fails_takes_the_others_along() -> None:
    cancelled: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ValueError

    async def run() -> None:
        try:
            await together([wait(), fail()])
        finally:
            await asyncio.sleep(0)  # a cancelled task hears of it in the loop's next turn

    with pytest.raises(ValueError):  # noqa: PT011
        asyncio.run(run())
    assert cancelled == [True]
