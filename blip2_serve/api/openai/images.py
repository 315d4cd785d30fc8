"""Find the picture of a request from the text that stands for it."""

from blip2_serve.api.inputs import image_of as parse_image
from blip2_serve.errors import InvalidImage, Part
from blip2_serve.images import ImageSource


def image_of(url: str, field: str = "The url of image_url") -> ImageSource:
    """Parse a URL, a data: URI, base64, or "image-id:" and an id, for which OpenAI's protocol has no field.

    Raises:
        InvalidImage: `url`, which errors call `field`, is none of the four.
    """
    try:
        return parse_image(url, field)
    except InvalidImage as error:
        error.about = Part.IMAGE
        raise
