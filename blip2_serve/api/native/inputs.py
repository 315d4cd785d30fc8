"""Replace BentoML's request parsing: describe each body for the OpenAPI page, and read it ourselves.

BentoML calls `from_http_request` and passes the attributes named in `model_fields` to the endpoint. It would answer an
exception raised there in its own shape, so an error travels to the endpoint in place of the fields.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

from _bentoml_sdk.io_models import IODescriptor
from PIL import Image
from pydantic import Field
from starlette.requests import Request

from blip2_serve.api.body import read_body
from blip2_serve.api.native.batch_fields import MAX_PICTURES, BatchFields
from blip2_serve.api.native.fields import AskFields, CaptionFields, ChatFields, Fields, ImageFields, validate_fields
from blip2_serve.api.native.scored_fields import CaptionSeveralFields, ChooseFields
from blip2_serve.errors import Blip2Error

# BentoML's client and the page recognise a file by the type Image; the default None makes it optional, not nullable.
_IMAGE = Field(None, description=ImageFields.model_fields["img"].description)


@dataclass(frozen=True, slots=True)
class _ReadFields:
    """Keyword arguments of an endpoint: `fields=..., request=...`."""

    model_fields: ClassVar[tuple[str, ...]] = ("fields", "request")

    fields: Fields | Blip2Error
    request: Request


class _Input(IODescriptor):
    """A body that shows its own fields on the page and is read as `fields`."""

    fields: ClassVar[type[Fields]]

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> IODescriptor:
        """Read the endpoint's arguments; a `Blip2Error` takes the place of the fields."""
        try:
            values = await read_body(request, cls.fields.repeatable)
            read = _ReadFields(validate_fields(cls.fields, values), request)
        except Blip2Error as refusal:
            read = _ReadFields(refusal, request)
        return cast(IODescriptor, read)


class CaptionInput(CaptionFields, _Input):
    """Body of /generate."""

    fields = CaptionFields
    img: Image.Image = _IMAGE  # type: ignore[assignment]  # what the OpenAPI page and BentoML's client show


class AskInput(AskFields, _Input):
    """Body of /vqa."""

    fields = AskFields
    img: Image.Image = _IMAGE  # type: ignore[assignment]


class ChatInput(ChatFields, _Input):
    """Body of /chat."""

    fields = ChatFields
    img: Image.Image = _IMAGE  # type: ignore[assignment]


class CaptionSeveralInput(CaptionSeveralFields, _Input):
    """Body of /captions."""

    fields = CaptionSeveralFields
    img: Image.Image = _IMAGE  # type: ignore[assignment]


class ChooseInput(ChooseFields, _Input):
    """Body of /choose."""

    fields = ChooseFields
    img: Image.Image = _IMAGE  # type: ignore[assignment]


class BatchInput(BatchFields, _Input):
    """Body of /batch."""

    fields = BatchFields
    imgs: list[Image.Image] = Field(  # type: ignore[assignment]
        min_length=1, max_length=MAX_PICTURES, description=BatchFields.model_fields["imgs"].description
    )
