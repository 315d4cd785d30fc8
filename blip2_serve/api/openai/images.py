"""Find the picture of a chat from the `url` of its `image_url` part."""

import re

from blip2_serve.api.image_text import ID_PATTERN, image_of_id, image_source
from blip2_serve.errors import InvalidImage
from blip2_serve.images import ImageSource

_ID_PREFIX = "image-id:"


def image_of(url: str) -> ImageSource:
    """Parse a URL, a data: URI, base64, or "image-id:" and an id, for which OpenAI's protocol has no field.

    Raises:
        InvalidImage: `url` is none of the four.
    """
    if not url.startswith(_ID_PREFIX):
        return _image_source(url)
    digits = url.removeprefix(_ID_PREFIX)
    if not re.fullmatch(ID_PATTERN, digits):
        raise InvalidImage(f"After {_ID_PREFIX} come the 64 hex digits of an X-Image-Id.", about="messages")
    return image_of_id(digits)


def _image_source(url: str) -> ImageSource:
    try:
        return image_source(url)
    except InvalidImage:
        raise InvalidImage(
            "The url of image_url is neither a URL nor a data: URI with base64 nor an image-id: send the picture as"
            ' "data:image/jpeg;base64,...".',
            about="messages",
        ) from None
