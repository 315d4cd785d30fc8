"""POST /v1/embeddings: OpenAI's embeddings, of texts and, as Jina's clients send them, of pictures."""

import asyncio
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from blip2_serve.api.inputs import TextInput, input_of
from blip2_serve.api.leniency import Ignored, known_fields
from blip2_serve.api.native.batch import MAX_PICTURES
from blip2_serve.api.native.embed import EncodingFormat, written
from blip2_serve.api.native.fields import validate_fields, whole_texts
from blip2_serve.api.native.match import MAX_TEXTS
from blip2_serve.errors import Blip2Error, InvalidField
from blip2_serve.images import ImageSource
from blip2_serve.tasks.retrieval.verbs import Retrieval, Vectors, mean_vector

EXAMPLE = '{"model": "blip2", "input": ["a red circle"]}'
# What clients of other servers send along; it changes nothing here.
_NOTES = frozenset({"user", "task", "input_type", "normalized", "truncate", "embedding_type", "late_chunking"})
_TOKEN_IDS = (
    "input holds token ids, and this model's tokens are not OpenAI's: send texts. LangChain does so with"
    " OpenAIEmbeddings(check_embedding_ctx_length=False)."
)


_ITEM = {"anyOf": [{"type": "string"}, {"type": "object"}]}
_INPUT = {"anyOf": [*_ITEM["anyOf"], {"type": "array", "items": _ITEM, "minItems": 1, "maxItems": MAX_TEXTS}]}


class EmbeddingsRequest(BaseModel):
    """Texts and pictures to turn into vectors."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str = Field("blip2", description='"blip2", or the name of the matching model')
    input: Annotated[list[Any], WithJsonSchema(_INPUT)] = Field(
        min_length=1,
        max_length=MAX_TEXTS,
        description="a text, a picture (a data: URI, a URL, image-id: and an id), or up to 256 of them;"
        ' {"text": "..."} and {"image": "..."} say which it is; at most 64 pictures',
    )
    encoding_format: EncodingFormat = Field("float", description="numbers, or little-endian float32 in base64")
    dimensions: int | None = Field(None, ge=1, description="numbers in a vector: only the model's own")

    @field_validator("input", mode="before")
    @classmethod
    def _one_input_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str | dict) else value


class Embedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """Tokens read; a picture counts as its query tokens."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors of a request, in the order of its inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def read_request(values: dict[str, object], ignored: Ignored) -> EmbeddingsRequest:
    """Validate a JSON body from which nulls have been dropped; the caller's notes change nothing.

    Raises:
        InvalidField: a field is missing or out of bounds; `about` names it.
    """
    given = known_fields(values, EmbeddingsRequest.model_fields, _NOTES, ignored)
    sent = given.get("input")
    if isinstance(sent, list) and any(isinstance(each, int | list) for each in sent):
        raise InvalidField(_TOKEN_IDS, about="input")
    return validate_fields(EmbeddingsRequest, given)


async def embed(request: EmbeddingsRequest, retrieval: Retrieval) -> bytes:
    """Answer a request, as JSON; the first picture that fails fails it.

    Raises:
        Blip2Error: an input is at fault, or the request was refused.
    """
    if request.dimensions not in (None, retrieval.width):
        raise InvalidField(f"dimensions is {retrieval.width} here: leave it out.", about="dimensions")
    texts, pictures = await asyncio.to_thread(_sorted_inputs, request.input)  # megabytes of base64
    vectors = np.zeros((len(request.input), retrieval.width), dtype=np.float32)
    num_tokens = await _embed_texts(texts, vectors, retrieval) + await _embed_pictures(pictures, vectors, retrieval)
    return await asyncio.to_thread(_body, vectors, num_tokens, request, retrieval.model_name)


def _sorted_inputs(values: list[Any]) -> tuple[dict[int, str], dict[int, ImageSource]]:
    """Texts and pictures by their places."""
    texts: dict[int, str] = {}
    pictures: dict[int, ImageSource] = {}
    for place, value in enumerate(values):
        each = input_of(value, f"input.{place}")
        if isinstance(each, TextInput):
            texts[place] = each.text
        else:
            pictures[place] = each
    if len(pictures) > MAX_PICTURES:
        raise InvalidField(f"input has more than {MAX_PICTURES} pictures: send fewer at once.", about="input")
    try:
        whole_texts([*texts.values()])
    except ValueError as problem:
        raise InvalidField(f"input: {problem}.", about="input") from None
    return texts, pictures


async def _embed_texts(texts: dict[int, str], vectors: Vectors, retrieval: Retrieval) -> int:
    """Fill in the vectors of texts; returns the tokens read."""
    if not texts:
        return 0
    embedded = await retrieval.embed_texts([*texts.values()])
    vectors[[*texts]] = embedded.vectors
    return embedded.num_tokens


async def _embed_pictures(pictures: dict[int, ImageSource], vectors: Vectors, retrieval: Retrieval) -> int:
    """Fill in the pooled vectors of pictures; returns their query tokens."""
    if not pictures:
        return 0
    num_tokens = 0
    for place, result in zip(pictures, await retrieval.embed_images([*pictures.values()]), strict=True):
        if isinstance(result, Blip2Error):
            result.about = f"input.{place}"
            raise result
        vectors[place] = mean_vector(result.vectors)
        num_tokens += len(result.vectors)
    return num_tokens


def _body(vectors: Vectors, num_tokens: int, request: EmbeddingsRequest, model: str) -> bytes:
    """Write the answer vector by vector: one call of `json.dumps` holds the interpreter's lock to its end."""
    entries = (
        {"object": "embedding", "index": place, "embedding": written(vector, request.encoding_format)}
        for place, vector in enumerate(vectors)
    )
    about = {"model": model, "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens}}
    data = b",".join(json.dumps(entry).encode() for entry in entries)
    return b'{"object":"list","data":[' + data + b"]," + json.dumps(about).encode()[1:]
