"""The fields that endpoints share: types, bounds, defaults, each stated once; an endpoint's own stand in its file.

Only the picture is required, as `img` or as `img_id`. `None` means "not given", so that a default can depend on the
endpoint, the family or another option.
"""

import dataclasses
import json
import re
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from blip2_serve.api.image_text import ID_PATTERN, image_of_id
from blip2_serve.errors import InvalidField, Part
from blip2_serve.families import Family
from blip2_serve.images import ImageSource
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS, DecodingOptions, draws_beams
from blip2_serve.tasks.completion import OutputOptions

# Longer texts cannot fit into 512 tokens; refusing them here keeps the tokenizer off megabytes of text.
MAX_TEXT_CHARACTERS = 32_768
MAX_CHARACTERS_TOGETHER = 262_144
MAX_TURNS = 256
PICTURE = "the picture: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
PICTURE_ID = "in place of img: the X-Image-Id of an earlier answer about the picture"


# Nothing else is parsed: millions of empty lists in a string would take seconds, on the event loop.
_STRING = r'"(?:[^"\\]++|\\.)*+"\s*+'
_LIST_OF_STRINGS = re.compile(rf"\s*+\[\s*+(?:{_STRING}(?:,\s*+{_STRING})*+)?+\]\s*+")
_MAX_LIST_CHARACTERS = 6 * MAX_CHARACTERS_TOGETHER  # each may be escaped


class Example(NamedTuple):
    """The fields of a request beside the picture demo.jpeg, and what the demo checkpoint answers."""

    fields: dict[str, Any]
    answer: Any


class Fields(BaseModel):
    """Base of all fields: refuses unknown names; a form may repeat the names in `repeatable`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    repeatable: ClassVar[frozenset[str]] = frozenset()
    # Of an endpoint: where it is, an example, and what its answer tells in headers (see api/openapi/responses.py).
    path: ClassVar[str]
    example: ClassVar[Example]
    tells: ClassVar[frozenset[str]] = frozenset()


class PictureFields(Fields):
    """A picture and a text."""

    img: ImageSource | None = Field(None, description=PICTURE)
    txt: str | None = Field(None, max_length=MAX_TEXT_CHARACTERS)
    img_id: str | None = Field(None, pattern=ID_PATTERN, description=PICTURE_ID)

    @field_validator("txt")
    @classmethod
    def _txt_is_text(cls, txt: str | None) -> str | None:
        return None if not txt else whole_characters(txt)

    @property
    def image(self) -> ImageSource:
        """The picture, see `one_image`."""
        return one_image(self.img, self.img_id)


def one_image(img: ImageSource | None, img_id: str | None) -> ImageSource:
    """Return the picture, from `img` or `img_id`.

    Raises:
        InvalidField: both were sent, or neither.
    """
    if img is not None and img_id is not None:
        raise InvalidField("img and img_id were both sent: send one of the two.", about=Part.IMAGE_ID)
    if img is not None:
        return img
    if img_id is not None:
        return image_of_id(img_id)
    raise InvalidField("img is missing: send a picture in the field img, or its id as img_id.", about=Part.IMAGE)


class DecodingFields(Fields):
    """Decoding options."""

    max_new_tokens: int | None = Field(
        None, ge=1, le=MAX_NEW_TOKENS, description="most tokens to write, 1 to 256; default 30, for vqa 10"
    )
    min_new_tokens: int | None = Field(
        None, ge=0, le=MAX_NEW_TOKENS, description="fewest tokens to write, at most max_new_tokens; default 0"
    )
    num_beams: int | None = Field(
        None, ge=1, le=MAX_NUM_BEAMS, description="beams of the search, 1 to 16; default 5, with do_sample 1"
    )
    do_sample: bool | None = Field(None, description="draw tokens at random instead of searching; default false")
    temperature: float | None = Field(None, gt=0, le=100, description="of sampling, above 0; default 1")
    top_p: float | None = Field(
        None, gt=0, le=1, description="share of probability to sample from, above 0 to 1; default 0.9"
    )
    top_k: int | None = Field(
        None, ge=0, le=1_000_000, description="number of tokens to sample from, 0 for all; default 50"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="least probability to sample, as a share of the likeliest token's; default 0, off"
    )
    repetition_penalty: float | None = Field(None, gt=0, le=100, description="above 1 avoids repetition; default 1")
    length_penalty: float | None = Field(
        None, ge=-100, le=100, description="above 0 favours long answers of beams; default 1, for vqa 0 (T5: -1)"
    )
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, le=MAX_NEW_TOKENS, description="no n-gram of this size twice; default 0, off"
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="the same seed samples the same text")
    guards: bool = Field(False, description="make an answer again that loops or is empty; default false")

    def options(self, family: Family) -> DecodingOptions:
        """Fill in the endpoint's defaults for the options that the request leaves out.

        Raises:
            InvalidField: two options contradict each other.
        """
        named = {field.name for field in dataclasses.fields(DecodingOptions)}
        given = self.model_dump(exclude_none=True, include=named)
        sampling = {"num_beams": 1} if self.do_sample else {}
        options = DecodingOptions(**{**self.defaults(family), **sampling, **given})
        if draws_beams(options.num_beams, options.do_sample):
            raise InvalidField(
                "num_beams above 1 searches and do_sample draws at random: give one of the two.",
                about="num_beams",
            )
        if options.min_new_tokens > options.max_new_tokens:
            raise InvalidField(
                f"min_new_tokens is {options.min_new_tokens}, above max_new_tokens, {options.max_new_tokens}:"
                " lower it.",
                about="min_new_tokens",
            )
        return options

    @property
    def output(self) -> OutputOptions:
        """Guard answers where it is asked for."""
        return OutputOptions(guards=self.guards)

    @staticmethod
    def defaults(family: Family) -> dict[str, Any]:
        """Return the options in which this endpoint differs from the defaults of `DecodingOptions`."""
        return dict(family.caption_defaults)


class ImageFields(DecodingFields, PictureFields):
    """A picture, a text and how to decode."""


FieldsT = TypeVar("FieldsT", bound=BaseModel)


def validate_fields(model: type[FieldsT], values: dict[str, object]) -> FieldsT:
    """Validate the fields of one request.

    Raises:
        InvalidField: a field is missing, unknown or out of bounds; `about` names it.
    """
    unknown = next((name for name in values if name not in model.model_fields), None)
    if unknown is not None:  # first, and one of them: pydantic would write an error for each
        raise _no_such_field(unknown, model)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _first_error(error, model) from None


def _no_such_field(name: str, model: type[BaseModel]) -> InvalidField:
    known = ", ".join(model.model_fields)
    return InvalidField(f"There is no field {_shown(name)!r} here: the fields are {known}.", about=_shown(name))


def _shown(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:64]}..."


def _first_error(error: ValidationError, model: type[BaseModel]) -> InvalidField:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "missing" and name == "imgs":
        return InvalidField("imgs is missing: send pictures in the field imgs.", about="imgs")
    place = ".".join(str(step) for step in problem["loc"])
    return InvalidField(f"{place}: {problem['msg']}.", about=_shown(name))


def whole_characters(text: str) -> str:
    """Return `text` unchanged; no tokenizer takes a lone surrogate.

    Raises:
        ValueError: `text` holds a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a character (a lone surrogate)") from None
    return text


def whole_texts(texts: list[str]) -> list[str]:
    """Return `texts` unchanged.

    Raises:
        ValueError: one is empty, too long or holds half a character, or all together are too long.
    """
    if max(map(len, texts), default=0) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"a text has more than {MAX_TEXT_CHARACTERS} characters: shorten it")
    if sum(map(len, texts)) > MAX_CHARACTERS_TOGETHER:
        raise ValueError(f"the texts have more than {MAX_CHARACTERS_TOGETHER} characters together: send fewer at once")
    if not all(whole_characters(text).strip() for text in texts):
        raise ValueError("a text is empty: give each some words")
    return texts


def texts_of(value: object) -> object:
    """Parse a JSON list of strings, which a form may send instead of repeating a field; return other values as is."""
    if not isinstance(value, str) or len(value) > _MAX_LIST_CHARACTERS or not _LIST_OF_STRINGS.fullmatch(value):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def endpoints(base: type[Fields] = Fields) -> dict[str, type[Fields]]:
    """The fields of every endpoint of our own, by path."""
    found = {base.path: base} if "path" in vars(base) else {}
    for each in base.__subclasses__():
        found |= endpoints(each)
    return found
