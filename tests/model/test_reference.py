"""The reference is transformers, used as its documentation says, with nothing lost on the way.

Compared with `Blip2Processor` and `Blip2ForConditionalGeneration.generate` on the same checkpoint in float32.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import Reference, end_ids_of
from blip2_serve.options import DecodingOptions
from support.pictures import gradient

PROMPTS = {
    "caption": lambda family: "",
    "prefix": lambda family: "a photo of",
    "vqa": lambda family: family.question_prompt("what is it?"),
    "chat": lambda family: family.chat_prompt([("what?", "a cat"), ("where?", "on a mat.")], "why?"),
}


@pytest.fixture(scope="module", params=["opt", "t5", "instructblip"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def theirs(family: str, tiny_checkpoints: dict[str, Path]) -> tuple[Any, Any]:
    """transformers' own processor and model, loaded without our code."""
    folder = tiny_checkpoints[family]
    parts = [BlipImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)]
    if family == "instructblip":
        parts.append(AutoTokenizer.from_pretrained(folder / "qformer_tokenizer"))
        processor_class, model_class = InstructBlipProcessor, InstructBlipForConditionalGeneration
    else:
        processor_class, model_class = Blip2Processor, Blip2ForConditionalGeneration
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    return processor_class(*parts, num_query_tokens=5), model


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("num_beams", [1, 5])
def test_answers_are_those_of_transformers_token_for_token(
    family: str,
    theirs: tuple[Any, Any],
    tiny_models: dict[str, LoadedModel],
    kind: str,
    num_beams: int,
) -> None:
    processor, model = theirs
    loaded, prompt = tiny_models[family], PROMPTS[kind](tiny_models[family].family)
    options = DecodingOptions(max_new_tokens=12, num_beams=num_beams)
    answers = set()
    for seed in range(6):
        image = gradient(seed=seed)
        inputs = processor(images=image, text=prompt, return_tensors="pt")
        expected = model.generate(**inputs, max_new_tokens=12, num_beams=num_beams)[0].tolist()
        begin = inputs["input_ids"].shape[1] if family == "opt" else 1
        ids, instruction_ids = loaded.encode_text(prompt), loaded.encode_instruction(prompt)
        generated = Reference(loaded).generate(image, ids, options, instruction_ids)
        assert generated.ids == expected[begin:]
        assert loaded.decode_text(generated.ids) == processor.decode(expected[begin:], skip_special_tokens=True)
        answers.add(tuple(generated.ids))
    assert len(answers) > 1, "the pictures make no difference: the comparison proves nothing"


def test_the_end_token_is_that_of_the_text_config(tiny_models: dict[str, LoadedModel]) -> None:
    for loaded in tiny_models.values():
        options = DecodingOptions(
            max_new_tokens=400, num_beams=1, do_sample=True, temperature=20.0, top_p=1.0, top_k=0, seed=1
        )
        ids, instruction_ids = loaded.encode_text(""), loaded.encode_instruction("")
        generated = Reference(loaded).generate(gradient(), ids, options, instruction_ids)
        assert generated.finish_reason == "stop"
        assert generated.ids[-1] == loaded.model.config.text_config.eos_token_id


@pytest.mark.parametrize(("ids", "ends"), [(None, ()), (2, (2,)), ([2, 7], (2, 7))])
def test_a_text_may_have_no_end_token_or_several(ids: object, ends: tuple[int, ...]) -> None:
    language_model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ids))
    assert end_ids_of(language_model) == ends


def test_an_answer_that_fills_its_length_says_so(tiny_models: dict[str, LoadedModel]) -> None:
    options = DecodingOptions(max_new_tokens=5, min_new_tokens=5, num_beams=1)
    generated = Reference(tiny_models["opt"]).generate(gradient(), [1], options)
    assert (len(generated.ids), generated.finish_reason) == (5, "length")


def test_the_same_seed_samples_the_same_text(tiny_models: dict[str, LoadedModel]) -> None:
    reference, ids = Reference(tiny_models["opt"]), tiny_models["opt"].encode_text("")

    def sample(seed: int | None) -> list[int]:
        options = DecodingOptions(num_beams=1, do_sample=True, temperature=2.0, seed=seed)
        return reference.generate(gradient(), ids, options).ids

    assert sample(7) == sample(7)
    assert len({tuple(sample(seed)) for seed in range(5)}) > 1
    assert len({tuple(sample(None)) for _ in range(5)}) > 1


def test_spelled_out_special_tokens_are_plain_text(tiny_models: dict[str, LoadedModel]) -> None:
    loaded = tiny_models["opt"]
    ids = loaded.encode_text("an <image> and </s>")
    assert loaded.model.config.image_token_index not in ids
    assert ids.count(1) == 1  # the BOS that the tokenizer puts first
    assert loaded.decode_text(ids) == "an <image> and </s>"
