"""The body of a reranking request: a text and pictures, or a picture and texts."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from blip2_serve.api.inputs import TextInput, input_of
from blip2_serve.api.leniency import Ignored, known_fields
from blip2_serve.api.native.batch import MAX_PICTURES
from blip2_serve.api.native.fields import validate_fields, whole_texts
from blip2_serve.api.native.match import MAX_TEXTS
from blip2_serve.errors import InvalidField
from blip2_serve.images import ImageSource

EXAMPLE = '{"model": "blip2", "query": "a red circle", "documents": ["data:image/png;base64,..."]}'
# Bounds of other servers' models, and the caller's notes: they change nothing here.
_NOTES = frozenset({"max_chunks_per_doc", "max_tokens_per_doc", "priority", "rank_fields", "truncation", "user"})


class RerankRequest(BaseModel):
    """A query and the documents to rank by it, one side texts and the other pictures."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str = Field("blip2", description='"blip2", or the name of the matching model')
    query: Any = Field(
        description="a text, or a picture: a data: URI, a URL, image-id: and an id;"
        ' {"text": "..."} and {"image": "..."} say which it is'
    )
    documents: list[Any] = Field(
        min_length=1, max_length=MAX_TEXTS, description="1 to 64 pictures for a text, or 1 to 256 texts for a picture"
    )
    top_n: int | None = Field(None, ge=1, strict=True, description="how many of the best to return; default all")
    return_documents: bool = Field(False, description="repeat the texts in the answer")


@dataclass(frozen=True, slots=True)
class TextsForPicture:
    """Texts to rank by a picture."""

    image: ImageSource
    texts: list[str]


@dataclass(frozen=True, slots=True)
class PicturesForText:
    """Pictures to rank by a text."""

    text: str
    images: list[ImageSource]


def read_request(values: dict[str, object], ignored: Ignored) -> RerankRequest:
    """Validate a JSON body from which nulls have been dropped; the caller's notes change nothing.

    Raises:
        InvalidField: a field is missing or out of bounds; `about` names it.
    """
    return validate_fields(RerankRequest, known_fields(values, RerankRequest.model_fields, _NOTES, ignored))


def sides_of(request: RerankRequest) -> TextsForPicture | PicturesForText:
    """Parse query and documents; takes time where there are megabytes of base64.

    Raises:
        InvalidField: both sides are texts, both are pictures, or documents are of both kinds.
        InvalidImage: a picture cannot be parsed.
    """
    query = input_of(request.query, "query")
    documents = [input_of(each, f"documents.{place}") for place, each in enumerate(request.documents)]
    texts = [each.text for each in documents if isinstance(each, TextInput)]
    images = [each for each in documents if not isinstance(each, TextInput)]
    if isinstance(query, TextInput) and not texts:
        if len(images) > MAX_PICTURES:
            raise InvalidField(f"documents has more than {MAX_PICTURES} pictures: send fewer.", about="documents")
        return PicturesForText(_checked([query.text], "query")[0], images)
    if not isinstance(query, TextInput) and not images:
        return TextsForPicture(query, _checked(texts, "documents"))
    raise InvalidField(
        "BLIP-2 compares pictures with texts: send a text as query and pictures as documents, or a picture and texts.",
        about="documents",
    )


def _checked(texts: list[str], field: str) -> list[str]:
    try:
        return whole_texts(texts)
    except ValueError as problem:
        raise InvalidField(f"{field}: {problem}.", about=field) from None
