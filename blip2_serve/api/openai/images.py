"""Find the picture of a chat from the `url` of its `image_url` part."""

from blip2_serve.api.inputs import image_of as parse_image
from blip2_serve.errors import InvalidImage
from blip2_serve.images import ImageSource


def image_of(url: str) -> ImageSource:
    """Parse a URL, a data: URI, base64, or "image-id:" and an id, for which OpenAI's protocol has no field.

    Raises:
        InvalidImage: `url` is none of the four.
    """
    try:
        return parse_image(url, "The url of image_url")
    except InvalidImage as error:
        error.about = "messages"
        raise
