"""Parse a picture sent as text: base64, a data: URI, a URL, or the id of an earlier picture."""

import base64
import re

from blip2_serve.errors import InvalidImage, Part, RequestError
from blip2_serve.images import ImageId, ImageSource, ImageUrl, Upload

ID_PATTERN = "^[0-9a-fA-F]{64}$"

_PIECE = 2**20  # in characters
_DATA_URI = re.compile(r"data:[^,]{0,256},", re.IGNORECASE)
# Bounded: megabytes of base64 could match as a scheme, and a regex search blocks every thread.
_URL = re.compile(r"\s{0,64}[a-z][a-z0-9+.-]{0,31}://", re.IGNORECASE)


def image_source(value: object) -> ImageSource:
    """Parse the text that stands for a picture; a URL is neither checked nor fetched here.

    Raises:
        InvalidImage: `value` is neither a URL nor base64.
    """
    if isinstance(value, str) and _URL.match(value):
        return ImageUrl(value)
    return Upload(decode_inline_image(value))


def image_of_id(digits: str) -> ImageId:
    """Parse an image id of 64 hex digits, which must match ID_PATTERN."""
    return ImageId(bytes.fromhex(digits))


def decode_inline_image(value: object) -> bytes:
    """Decode a picture sent as base64 or as a data: URI.

    Raises:
        InvalidImage: `value` is no string or no base64.
    """
    if not isinstance(value, str):
        raise _not_inline("is no string")
    header = _DATA_URI.match(value)
    if header and not header.group().lower().endswith(";base64,"):
        raise _not_inline("is a data: URI without base64")
    text = value[header.end() :] if header else value
    try:
        return _decoded(text)
    except ValueError:
        raise _not_inline("is neither base64 nor a data: URI nor a URL") from None


def _decoded(text: str) -> bytes:
    """Decode base64 a piece at a time: the interpreter's lock is free between them.

    Raises:
        ValueError: `text` is no base64.
    """
    pieces: list[bytes] = []
    rest, is_padded = b"", False
    for start in range(0, len(text), _PIECE):
        piece = rest + text[start : start + _PIECE].encode("ascii").translate(None, b" \t\r\n")
        if is_padded and piece:
            raise ValueError("padding before the end")
        whole = piece[: len(piece) // 4 * 4]
        rest, is_padded = piece[len(whole) :], whole.endswith(b"=")
        pieces.append(base64.b64decode(whole, validate=True))
    return b"".join([*pieces, base64.b64decode(rest, validate=True)])


def _not_inline(problem: str) -> RequestError:
    return InvalidImage(f"img {problem}: send the picture as a file part, or its bytes as base64.", about=Part.IMAGE)
