"""POST /embed: pictures or texts as unit vectors."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from blip2_serve.api.errors import BATCH_FIELDS, error_body
from blip2_serve.api.image_text import ID_PATTERN, image_of_id
from blip2_serve.api.native.answers import AS_OBJECT, Error
from blip2_serve.api.native.batch import MAX_PICTURES
from blip2_serve.api.native.fields import PICTURE, PICTURE_ID, Example, Fields, texts_of, whole_texts
from blip2_serve.api.native.match import MAX_TEXTS
from blip2_serve.errors import Blip2Error, InvalidField
from blip2_serve.images import ImageSource
from blip2_serve.tasks.retrieval.verbs import ImageVectors, TextVectors, Vectors, mean_vector

EncodingFormat = Literal["float", "base64"]


class EmbedFields(Fields):
    """Pictures or texts, and how to answer."""

    path: ClassVar[str] = "/embed"
    example: ClassVar[Example] = Example(
        {"pool": "mean", "encoding_format": "base64"},
        {
            "embeddings": [
                {
                    "vectors": "6LtZPQ...",
                    "shape": [1, 256],
                    "image_id": "46c52db4d1fe5a56b1075cda2e7604bfce92a83342e5c836ae32ad536cc2c4ea",
                }
            ]
        },
    )
    tells: ClassVar[frozenset[str]] = frozenset({"model"})
    repeatable: ClassVar[frozenset[str]] = frozenset({"imgs", "texts"})

    img: ImageSource | None = Field(None, description=PICTURE)
    imgs: list[ImageSource | Blip2Error] | None = Field(
        None, min_length=1, max_length=MAX_PICTURES, description="1 to 64 pictures: the part repeated, or a JSON list"
    )
    img_id: str | None = Field(None, pattern=ID_PATTERN, description=PICTURE_ID)
    texts: list[str] | None = Field(
        None, min_length=1, max_length=MAX_TEXTS, description="1 to 256 texts; in a form repeated or as JSON"
    )
    pool: Literal["none", "mean"] = Field(
        "none", description="a picture's vectors one by one, or the normalised mean of them; default none"
    )
    encoding_format: EncodingFormat = Field(
        "float", description="numbers, or little-endian float32 in base64; default float"
    )

    @field_validator("texts", mode="before")
    @classmethod
    def _texts_may_be_json(cls, texts: object) -> object:
        texts = texts_of(texts)
        return [texts] if isinstance(texts, str) else texts

    @field_validator("texts")
    @classmethod
    def _texts_are_bounded(cls, texts: list[str] | None) -> list[str] | None:
        return None if texts is None else whole_texts(texts)

    @property
    def images(self) -> list[ImageSource | Blip2Error]:
        """The pictures, from `img`, `imgs` or `img_id`; none where texts were sent.

        Raises:
            InvalidField: not exactly one of the four was sent.
        """
        given = [name for name in ("img", "imgs", "img_id", "texts") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} were sent" if given else "nothing was sent"
            raise InvalidField(f"{said}: send one of img, imgs, img_id and texts.", about=given[-1] if given else "img")
        if self.img_id is not None:
            return [image_of_id(self.img_id)]
        return [self.img] if self.img is not None else self.imgs or []


class Embedded(BaseModel):
    """One picture or text as unit vectors."""

    vectors: list[list[float]] | str
    shape: tuple[int, int] = Field(description="number of vectors, and numbers in each")
    image_id: str | None = Field(description="SHA-256 of the uploaded bytes, in hexadecimal; null for a text")


# BentoML's client knows a union by its first member, and drops what that has not.
_Result = Annotated[Embedded | Error, AS_OBJECT]


class EmbedAnswer(BaseModel):
    """Answer of /embed, in the order of the pictures or texts."""

    embeddings: list[_Result]


def images_body(results: Sequence[ImageVectors | Blip2Error], fields: EmbedFields) -> bytes:
    """Write the answer about pictures, with an error in place of each that failed; megabytes, so not on the loop."""
    return _body(_entry(result, fields) for result in results)


def texts_body(embedded: TextVectors, fields: EmbedFields) -> bytes:
    """Write the answer about texts."""
    rows = (embedded.vectors[place : place + 1] for place in range(len(embedded.vectors)))
    return _body(_embedded(row, fields.encoding_format, None) for row in rows)


def _body(entries: Iterable[BaseModel]) -> bytes:
    """Write an EmbedAnswer entry by entry: one call of `json.dumps` holds the interpreter's lock to its end."""
    return b'{"embeddings":[' + b",".join(json.dumps(entry.model_dump()).encode() for entry in entries) + b"]}"


def written(vectors: Vectors, encoding_format: EncodingFormat) -> Any:
    """Vectors as JSON carries them: lists of numbers, or base64 of little-endian float32."""
    if encoding_format == "float":
        return vectors.tolist()
    return base64.b64encode(vectors.astype("<f4").tobytes()).decode()


def _entry(result: ImageVectors | Blip2Error, fields: EmbedFields) -> Embedded | Error:
    if isinstance(result, Blip2Error):
        return Error.model_validate(error_body(result, BATCH_FIELDS))
    vectors = mean_vector(result.vectors) if fields.pool == "mean" else result.vectors
    return _embedded(vectors, fields.encoding_format, result.image_id)


def _embedded(vectors: Vectors, encoding_format: EncodingFormat, image_id: str | None) -> Embedded:
    num_vectors, width = vectors.shape
    return Embedded.model_construct(
        vectors=written(vectors, encoding_format), shape=(num_vectors, width), image_id=image_id
    )
