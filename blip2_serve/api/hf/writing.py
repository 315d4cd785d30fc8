"""The tasks that write text, with the fields of our own endpoints: image-to-text and visual-question-answering."""

import math
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from blip2_serve.api.leniency import number_of
from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.caption import CaptionFields
from blip2_serve.api.native.fields import DecodingFields, ImageFields, validate_fields
from blip2_serve.errors import InvalidField
from blip2_serve.families import Family
from blip2_serve.options import MAX_NUM_BEAMS, DecodingOptions
from blip2_serve.tasks.completion import CompletedRequest

CAPTION_NAMES = frozenset({"prompt", "return_full_text", *DecodingFields.model_fields})
QUESTION_NAMES = frozenset({"question", *DecodingFields.model_fields})
FieldsT = TypeVar("FieldsT", bound=ImageFields)


class TaskCaption(BaseModel):
    """The caption of image-to-text."""

    generated_text: str


class TaskAnswer(BaseModel):
    """An answer to a question about a picture."""

    score: float = Field(description="the probability of its tokens, the end token counted")
    answer: str


class _NumAnswers(BaseModel):
    model_config = ConfigDict(frozen=True)

    top_k: int = Field(1, ge=1)


def caption_fields(values: dict[str, Any]) -> CaptionFields:
    """Validate what is said about a caption; `prompt` is how it begins.

    Raises:
        InvalidField: something is out of bounds; `about` names it.
    """
    return _fields(CaptionFields, values, "prompt")


def question_fields(values: dict[str, Any]) -> tuple[AskFields, int]:
    """Validate a question and how to answer it; returns how many answers are wanted, too.

    Raises:
        InvalidField: something is missing or out of bounds; `about` names it.
    """
    if not values.get("question"):
        raise InvalidField(
            'question is missing: send {"inputs": {"image": "<base64>", "question": "..."}}.', about="question"
        )
    top_k = number_of(values.get("top_k", 1))
    wanted = validate_fields(_NumAnswers, {"top_k": 1 if top_k == 0 else values.get("top_k", 1)})
    others = {name: value for name, value in values.items() if name != "top_k"}
    return _fields(AskFields, others, "question"), min(wanted.top_k, MAX_NUM_BEAMS)


def answer_options(fields: AskFields, num_answers: int, family: Family) -> DecodingOptions:
    """Search with as many beams as answers are wanted, or draw as many.

    Raises:
        InvalidField: two options contradict each other.
    """
    options = fields.options(family)
    num_beams = options.num_beams if options.do_sample else max(options.num_beams, num_answers)
    return replace(options, num_beams=num_beams, num_return_sequences=num_answers)


def answers(done: CompletedRequest, options: DecodingOptions) -> list[TaskAnswer]:
    """The different answers, best first: of a search by its own order, of drawn ones the most probable.

    An empty answer is told where there is no other.
    """
    scores: dict[str, float] = {}
    for completion in done.completions:
        scores.setdefault(completion.text, math.exp(completion.logprob))
    if any(scores):
        scores.pop("", None)
    ranked = sorted(scores.items(), key=lambda pair: -pair[1]) if options.do_sample else list(scores.items())
    return [TaskAnswer(score=score, answer=answer) for answer, score in ranked]


def _fields(kind: type[FieldsT], values: dict[str, Any], text: str) -> FieldsT:
    """Validate `values`, in which the field `txt` is called `text`."""
    named = {"txt" if name == text else name: value for name, value in values.items()}
    try:
        return validate_fields(kind, named)
    except InvalidField as error:
        if error.about == "txt":
            raise InvalidField(error.message.replace("txt", text, 1), about=text) from None
        raise
