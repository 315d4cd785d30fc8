"""Texts and pictures side by side, as embedding and reranking clients send them."""

import re
from dataclasses import dataclass

from blip2_serve.api.image_text import ID_PATTERN, image_of_id, image_source
from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.images import ImageSource

ID_PREFIX = "image-id:"
# A text is taken for a picture only where it can hardly be anything else.
_PICTURE = re.compile(r"data:image/|image-id:[0-9a-fA-F]{64}$|https?://\S{1,4096}$", re.IGNORECASE)
_ITEM = 'a text, {"text": "..."} or {"image": "data:image/jpeg;base64,..."}'


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text."""

    text: str


def input_of(value: object, place: str) -> TextInput | ImageSource:
    """Parse a string or an item with `text` or `image`; `place` names it in errors.

    A string is a picture if it is a data: URI of one, a URL without spaces or "image-id:" and an id.

    Raises:
        InvalidField: it is neither.
        InvalidImage: it should be a picture and is not.
    """
    if isinstance(value, str):
        return image_of(value, place) if _PICTURE.match(value) else TextInput(value)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "text" and isinstance(content, str):
            return TextInput(content)
        if kind == "image":
            return image_of(content, place)
    raise InvalidField(f"{place} is none of these: {_ITEM}.", about=place)


def image_of(value: object, place: str) -> ImageSource:
    """Parse a URL, a data: URI, base64, or "image-id:" and an id, for which foreign protocols have no field.

    Raises:
        InvalidImage: `value` is none of the four.
    """
    if isinstance(value, str) and value.startswith(ID_PREFIX):
        digits = value.removeprefix(ID_PREFIX)
        if not re.fullmatch(ID_PATTERN, digits):
            raise InvalidImage(f"After {ID_PREFIX} come the 64 hex digits of an X-Image-Id.", about=place)
        return image_of_id(digits)
    try:
        return image_source(value)
    except InvalidImage:
        raise InvalidImage(
            f"{place} is neither a URL nor a data: URI with base64 nor an image-id: send the picture as"
            ' "data:image/jpeg;base64,...".',
            about=place,
        ) from None
