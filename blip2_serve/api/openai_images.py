"""Where a chat's picture comes from: the one door from the `url` of an `image_url` part to an upload."""

import asyncio

from blip2_serve.api.body import decode_inline_image
from blip2_serve.errors import InvalidImage
from blip2_serve.images import Upload

_REMEDY = 'send the picture as "data:image/jpeg;base64,..."'


async def upload_of(source: str) -> Upload:
    """The picture that `source` names.

    Raises:
        InvalidImage: it is a URL, which is not fetched, or no data: URI with base64.
    """
    kind = source[:8].lower()
    if kind.startswith(("http:", "https:")):
        raise InvalidImage(f"Pictures are not fetched from URLs: {_REMEDY}.", param="messages")
    if not kind.startswith("data:"):
        raise InvalidImage(f"The url of image_url is no data: URI: {_REMEDY}.", param="messages")
    try:
        return Upload(await asyncio.to_thread(decode_inline_image, source))
    except InvalidImage:
        raise InvalidImage(f"The url of image_url is no data: URI with base64: {_REMEDY}.", param="messages") from None
