"""Replace BentoML's request parsing: describe each body for the OpenAPI page, and read it ourselves.

BentoML calls `from_http_request` and passes the attributes named in `model_fields` to the endpoint. It would answer an
exception raised there in its own shape, so an error travels to the endpoint in place of the fields.
"""

import types
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from _bentoml_sdk.io_models import IODescriptor
from PIL import Image
from pydantic import Field
from starlette.requests import Request

from blip2_serve.api.body import read_body
from blip2_serve.api.native.batch import MAX_PICTURES
from blip2_serve.api.native.fields import Fields, validate_fields
from blip2_serve.errors import Blip2Error


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
            takes_picture = "img" in cls.fields.model_fields
            values = await read_body(request, cls.fields.repeatable, takes_picture=takes_picture)
            read = _ReadFields(validate_fields(cls.fields, values), request)
        except Blip2Error as refusal:
            read = _ReadFields(refusal, request)
        return cast(IODescriptor, read)


def input_of(fields: type[Fields], name: str) -> type[IODescriptor]:
    """The input of an endpoint with these fields; `name` is that of its schema in the OpenAPI document."""
    files = {"img": Image.Image, "imgs": list[Image.Image]}
    kinds = {field: kind for field, kind in files.items() if field in fields.model_fields}
    # null, which clients must not be required to send, is no part of a file's type.
    described = {field: _file_field(fields, field) for field in kinds}

    def fill(namespace: dict[str, Any]) -> None:
        namespace |= {"__doc__": f"Body of {fields.path}.", "__module__": __name__, "__annotations__": kinds}
        namespace |= {"fields": fields, **described}

    return types.new_class(name, (fields, _Input), exec_body=fill)


def _file_field(fields: type[Fields], name: str) -> Any:
    """Describe a file, or files, as the page and BentoML's client know it."""
    field = fields.model_fields[name]
    if name == "img":
        return Field(None, description=field.description)
    default: dict[str, Any] = {} if field.is_required() else {"default_factory": list}
    return Field(**default, min_length=1, max_length=MAX_PICTURES, description=field.description)
