"""Parse a picture sent as text: base64, a data: URI, a URL, or the id of an earlier picture."""

import base64
import re

from blip2_serve.errors import InvalidImage, Part, RequestError
from blip2_serve.images import ImageId, ImageSource, ImageUrl, Upload

ID_PATTERN = "^[0-9a-fA-F]{64}$"

_PIECE = 2**20  # in characters
_DATA_URI = re.compile(r"\s{0,64}data:[^,]{0,256},", re.IGNORECASE)
# Bounded: megabytes of base64 could match as a scheme, and a regex search blocks every thread.
_URL = re.compile(r"\s{0,64}[a-z][a-z0-9+.-]{0,31}://", re.IGNORECASE)

# Both alphabets of base64 as one; the second table is for a text whose `+` a form has turned into spaces.
_STANDARD = bytes.maketrans(b"-_", b"+/")
_STANDARD_WITH_SPACES = bytes.maketrans(b"-_ ", b"+/+")
_MAX_ESCAPES = 1_000_000  # undoing them holds the interpreter's lock
_ESCAPES = {"%2B": "+", "%2F": "/", "%3D": "=", "%0A": "\n", "%0D": "\n", "%20": " "}
# Characters from which the lines of a text are judged, and of the shortest line that any tool writes.
_HEAD = 65_536
_MIN_LINE = 40


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
    """Decode base64 of either alphabet, padded or not, in lines or not; a form may have turned its `+` into spaces.

    A piece at a time: the interpreter's lock is free between them.

    Raises:
        ValueError: `text` is no base64.
    """
    text = _unescaped(text).strip()
    pieces: list[bytes] = []
    rest, is_padded = b"", False
    table, ignored = (_STANDARD_WITH_SPACES, b"\t\r\n") if _has_lost_pluses(text) else (_STANDARD, b" \t\r\n")
    for start in range(0, len(text), _PIECE):
        piece = rest + text[start : start + _PIECE].encode("ascii").translate(table, ignored)
        if is_padded and piece:
            raise ValueError("padding before the end")
        whole = piece[: len(piece) // 4 * 4]
        rest, is_padded = piece[len(whole) :], whole.endswith(b"=")
        pieces.append(base64.b64decode(whole, validate=True))
    return b"".join([*pieces, base64.b64decode(_padded(rest), validate=True)])


def _unescaped(text: str) -> str:
    """Undo the percent signs that a data: URI may have.

    Raises:
        ValueError: there are more than base64 of the largest picture needs.
    """
    if "%" not in text:
        return text
    if text.count("%") > _MAX_ESCAPES:
        raise ValueError("too many escapes")
    for escape, sign in _ESCAPES.items():
        text = text.replace(escape, sign).replace(escape.lower(), sign)
    return text


def _has_lost_pluses(text: str) -> bool:
    """Return True if the spaces in `text` were `+`, as a form's reader makes them, and do not part its lines.

    Base64 of some length has 62nd signs: where they are there, spaces are only spaces. Lines are of one length, or
    begin with a space each.
    """
    if " " not in text or any(sign in text for sign in "+-_"):
        return False
    if num_breaks := text.count("\n"):
        return text.count("\n ") < num_breaks
    *lines, last = text[:_HEAD].split(" ")
    width = len(lines[0])
    return not (width >= _MIN_LINE and width % 4 == 0 and len(last) <= width and all(len(it) == width for it in lines))


def _padded(rest: bytes) -> bytes:
    """Complete the last characters, up to three, to four."""
    digits = rest.rstrip(b"=")
    return digits + b"=" * (-len(digits) % 4)


def _not_inline(problem: str) -> RequestError:
    return InvalidImage(f"img {problem}: send the picture as a file part, or its bytes as base64.", about=Part.IMAGE)
