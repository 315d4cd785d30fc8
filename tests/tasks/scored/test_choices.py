"""Choosing among given answers: transformers' numbers, whatever the order, however many."""

import asyncio
import io
import math
import random
from collections.abc import Iterator

import pytest
from PIL import Image

from benchmarks.run.choosing import count_right
from blip2_serve.config import Settings
from blip2_serve.engine.messages import FinishedRow
from blip2_serve.errors import Part, PromptTooLong
from blip2_serve.families import OPT
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.model.reference import Reference
from blip2_serve.tasks.prompt import PromptEncoder
from blip2_serve.tasks.scored.choices import Choice, Normalize, in_rounds, rank
from blip2_serve.tasks.verbs import Tasks
from support.pictures import jpeg

CHOICES = ["yes", "no", "a red circle", "blue", "perhaps, perhaps not"]


def spelled_ids(loaded: LoadedModel, text: str) -> tuple[int, ...]:
    """Return the ids of one choice."""
    return PromptEncoder(loaded).choices(None, [text]).continuations[0]


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    settings = Settings(model="demo", device="cpu", dtype="float32")
    return load_model(settings, locate_checkpoint(settings))


@pytest.fixture(scope="module", params=["demo", "tiny opt", "tiny t5"])
def loaded(request: pytest.FixtureRequest, demo: LoadedModel, tiny_models: dict[str, LoadedModel]) -> LoadedModel:
    return demo if request.param == "demo" else tiny_models[request.param.removeprefix("tiny ")]


@pytest.fixture(scope="module")
def tasks(loaded: LoadedModel) -> Iterator[Tasks]:
    running = Tasks(loaded, Settings(max_rows=16))
    yield running
    running.close()


def choose(tasks: Tasks, choices: list[str], normalize: Normalize = "sum") -> list[Choice]:
    return asyncio.run(tasks.choose(Upload(jpeg()), "what is it?", choices, normalize)).choices


def expected(loaded: LoadedModel, text: str) -> list[float]:
    """Return log-probabilities of the choice's tokens and the end token, by transformers' forward."""
    image = Image.open(io.BytesIO(jpeg())).convert("RGB")
    prompt_ids = loaded.encode_text(loaded.family.question_prompt("what is it?"))
    spelled = f" {text}" if loaded.family is OPT else text
    end_id = loaded.model.config.text_config.eos_token_id
    ids = [*loaded.tokenizer(spelled, add_special_tokens=False)["input_ids"], end_id]
    return Reference(loaded).score(image, prompt_ids, ids)


@pytest.mark.parametrize("normalize", ["sum", "length"])
def test_log_likelihoods_are_those_of_transformers(loaded: LoadedModel, tasks: Tasks, normalize: Normalize) -> None:
    numbers = {}
    for text in CHOICES:
        logprobs = expected(loaded, text)
        numbers[text] = sum(logprobs) / (len(logprobs) if normalize == "length" else 1)
    total = math.fsum(math.exp(number) for number in numbers.values())
    choices = choose(tasks, CHOICES, normalize)
    assert [choice.text for choice in choices] == sorted(CHOICES, key=lambda text: -numbers[text])
    for choice in choices:
        assert choice.log_likelihood == pytest.approx(numbers[choice.text], rel=1e-5)
        assert choice.probability == pytest.approx(math.exp(numbers[choice.text]) / total, abs=1e-4)


def test_probabilities_add_up_to_one(tasks: Tasks) -> None:
    assert math.fsum(choice.probability for choice in choose(tasks, CHOICES)) == pytest.approx(1)


def test_the_order_of_the_choices_changes_no_number(tasks: Tasks) -> None:
    first = choose(tasks, CHOICES)
    rng = random.Random(0)
    for _ in range(5):
        assert choose(tasks, rng.sample(CHOICES, len(CHOICES))) == first


def test_more_choices_than_rows_get_the_same_numbers(tasks: Tasks) -> None:
    many = [f"{number} things" for number in range(59)] + CHOICES
    few = {choice.text: choice.log_likelihood for choice in choose(tasks, CHOICES)}
    found = {choice.text: choice.log_likelihood for choice in choose(tasks, many)}
    assert len(found) == 64
    assert [found[text] for text in CHOICES] == pytest.approx([few[text] for text in CHOICES], abs=1e-4)


def test_scoring_in_company_changes_no_number(tasks: Tasks) -> None:
    alone = choose(tasks, CHOICES)

    async def together() -> list[list[Choice]]:
        calls = (tasks.choose(Upload(jpeg()), "what is it?", CHOICES) for _ in range(4))
        others = (tasks.choose(Upload(jpeg(seed=seed)), "where?", CHOICES[:seed]) for seed in (2, 3, 4))
        return [ranked.choices for ranked in await asyncio.gather(*calls, *others)]

    for found in asyncio.run(together())[:4]:
        assert [choice.text for choice in found] == [choice.text for choice in alone]
        numbers = [choice.log_likelihood for choice in found]
        assert numbers == pytest.approx([choice.log_likelihood for choice in alone], abs=1e-4)


def test_choices_count_against_the_context(tasks: Tasks) -> None:
    with pytest.raises(PromptTooLong, match="256") as caught:
        choose(tasks, ["no", "q " * 200])
    assert caught.value.about == Part.CHOICES
    with pytest.raises(PromptTooLong, match="the choices"):
        asyncio.run(tasks.choose(Upload(jpeg()), "q " * 300, ["yes", "no"]))


def test_a_choice_is_encoded_as_the_model_would_say_it(demo: LoadedModel, tiny_models: dict[str, LoadedModel]) -> None:
    prompt = OPT.question_prompt("is there a circle?")
    ids = spelled_ids(demo, "yes")
    assert demo.encode_text(prompt) + list(ids[:-1]) == demo.encode_text(f"{prompt} yes")
    assert ids[-1] == demo.model.config.text_config.eos_token_id
    assert list(spelled_ids(tiny_models["t5"], "yes")) == tiny_models["t5"].encode_text("yes")


def test_a_spelled_out_special_token_is_plain_text(tiny_models: dict[str, LoadedModel]) -> None:
    loaded = tiny_models["opt"]
    assert loaded.model.config.image_token_index not in spelled_ids(loaded, "<image>")


def test_rounds_hold_what_fits_any_engine() -> None:
    assert [len(each) for each in in_rounds([(5,)] * 35)] == [16, 16, 3]


def scored(*logprobs: float) -> FinishedRow:
    return FinishedRow((5,) * len(logprobs), logprobs, sum(logprobs) / len(logprobs), None, "stop")


def test_ties_are_broken_by_text() -> None:
    assert [choice.text for choice in rank(["b", "a"], [scored(-1.0), scored(-1.0)], "sum")] == ["a", "b"]


def test_a_mean_forgives_length_and_a_sum_does_not() -> None:
    pair = [scored(-0.5, -0.5, -0.5), scored(-1.0)]
    assert rank(["long", "short"], pair, "length")[0].text == "long"
    assert rank(["long", "short"], pair, "sum")[0].text == "short"


def test_hopeless_choices_have_probabilities_too() -> None:
    far = rank(["a", "b"], [scored(-2000.0), scored(-9000.0)], "sum")
    assert [choice.probability for choice in far] == [1.0, 0.0]


def test_the_demo_checkpoint_says_yes_for_what_is_there(demo: LoadedModel) -> None:
    tasks = Tasks(demo, Settings(max_rows=16))
    try:
        assert asyncio.run(count_right(tasks, range(40))) >= 39
    finally:
        tasks.close()
