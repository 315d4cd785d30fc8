"""A file of any format to what of it is picture."""

from blip2_serve.images.formats import avif, heif
from blip2_serve.images.formats.jpeg import START, plain_jpeg
from blip2_serve.images.formats.orientation import UPRIGHT
from blip2_serve.images.formats.plain import PlainFile
from blip2_serve.images.formats.png import SIGNATURE, plain_png
from blip2_serve.images.formats.webp import plain_webp


def plain_file(data: bytes, *, keeps_profile: bool) -> PlainFile:
    """Take a file's metadata off; formats whose readers bear with any are left as they are.

    Raises:
        InvalidImage: there is too much metadata, in too many pieces, or a checksum of a PNG is wrong.
        UnsupportedImage: HEIC, where it cannot be read.
    """
    if data.startswith(START):
        return plain_jpeg(data, keeps_profile=keeps_profile)
    if data.startswith(SIGNATURE):
        return plain_png(data, keeps_profile=keeps_profile)
    if _is_webp(data):
        return plain_webp(data)
    if heif.is_heif(data):
        heif.check_reader()
        return PlainFile(data, UPRIGHT)  # libheif turns it, by the container's orientation; EXIF repeats that
    return avif.plain_avif(data) if avif.is_avif(data) else PlainFile(data)


def is_known(data: bytes) -> bool:
    """True of a file that begins as one of these formats, whatever follows."""
    return data.startswith((START, SIGNATURE)) or _is_webp(data) or heif.is_heif(data)


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
