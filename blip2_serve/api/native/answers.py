"""JSON answers of our own endpoints, in the shapes that the OpenAPI page shows."""

from typing import Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.responses import JSONResponse

ShapeT = TypeVar("ShapeT", bound=BaseModel)


# BentoML's client cannot read a list that is null; api/openapi/responses.py puts the real schema in place of this.
AS_OBJECT = WithJsonSchema({"type": "object"})


class ErrorDetails(BaseModel):
    """The fault, in one line, and whose it is."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(description="what went wrong and what to do next")
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None = Field(description="the field at fault")
    code: str = Field(description="stable, for programs")


class Error(BaseModel):
    """Every error; in /batch, also what was wrong with one of the pictures."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorDetails


def json_reply(answer: ShapeT, headers: dict[str, str]) -> ShapeT:
    """Build the JSON response, which BentoML passes on as it is; typed as the shape that the endpoint declares."""
    return cast(ShapeT, JSONResponse(answer.model_dump(mode="json"), headers=headers))
