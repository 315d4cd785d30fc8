"""JSON answers of our own endpoints, in the shapes that the OpenAPI page shows."""

from typing import Annotated, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.responses import JSONResponse

from blip2_serve.api.errors import BATCH_FIELDS, error_body
from blip2_serve.errors import Blip2Error
from blip2_serve.options import FinishReason
from blip2_serve.tasks.caption import ScoredCaption
from blip2_serve.tasks.choose import Choice
from blip2_serve.tasks.completion import Answer

ShapeT = TypeVar("ShapeT", bound=BaseModel)


class CaptionSeveralAnswer(BaseModel):
    """Answer of /captions, best first."""

    captions: list[ScoredCaption]


class ChooseAnswer(BaseModel):
    """Answer of /choose, most probable first."""

    choices: list[Choice]


class Answered(BaseModel):
    """What is said about one picture of /batch."""

    text: str
    image_id: str = Field(description="SHA-256 of the uploaded bytes, in hexadecimal")
    new_tokens: int
    finish_reason: FinishReason


class ErrorDetails(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(description="what went wrong and what to do next")
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(description="the field at fault")
    code: str = Field(description="stable, for programs")


class Error(BaseModel):
    """Every error; in /batch, also what was wrong with one of the pictures."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorDetails


# BentoML's client reads a union as its first member, and drops the fields that this member lacks.
_Result = Annotated[Answered | Error, WithJsonSchema({"type": "object"})]


class BatchAnswer(BaseModel):
    """Answer of /batch, in the order of the pictures."""

    results: list[_Result]

    @classmethod
    def of(cls, results: list[Answer | Blip2Error]) -> "BatchAnswer":
        """Build the answer from results and errors, in the order of the pictures."""
        return cls(results=[_entry(result) for result in results])


def json_reply(answer: ShapeT, headers: dict[str, str]) -> ShapeT:
    """Build the JSON response, which BentoML passes on as it is; typed as the shape that the endpoint declares."""
    return cast(ShapeT, JSONResponse(answer.model_dump(mode="json"), headers=headers))


def _entry(result: Answer | Blip2Error) -> Answered | Error:
    if isinstance(result, Blip2Error):
        return Error.model_validate(error_body(result, BATCH_FIELDS))
    return Answered(
        text=result.text,
        image_id=result.image_id,
        new_tokens=result.new_tokens,
        finish_reason=result.finish_reason,
    )
