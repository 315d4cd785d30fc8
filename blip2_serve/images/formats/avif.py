"""AVIF without its EXIF, which does not decide: the container has an orientation of its own, which Pillow tells.

libavif refuses a picture whose EXIF it cannot read. Source: ISO/IEC 14496-12, 8.11.6 (item information).
"""

import re

from blip2_serve.images.formats.plain import PlainFile

# The type of an item stands behind its id, of 2 or 4 bytes, and 2 bytes of protection.
_EXIF_ITEM = re.compile(rb"(infe[\2\3].{3}(?:.{4}|.{6}))Exif", re.DOTALL)
_MAX_HEADER_BYTES = 2**20


def is_avif(data: bytes) -> bool:
    """True of any picture in this container; HEIC has been told before."""
    return data[4:8] == b"ftyp"


def plain_avif(data: bytes) -> PlainFile:
    """Rename the items of EXIF, so that nobody reads them."""
    plain = _EXIF_ITEM.sub(rb"\1none", data[:_MAX_HEADER_BYTES]) + data[_MAX_HEADER_BYTES:]
    return PlainFile(plain)
