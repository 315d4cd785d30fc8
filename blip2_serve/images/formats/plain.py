"""A picture's file without its metadata."""

from dataclasses import dataclass

from blip2_serve.errors import InvalidImage, Part

# Real files have a few hundred; this many of a GIF's blocks are 0.5 MB.
MAX_METADATA_PIECES = 4096


@dataclass(frozen=True, slots=True)
class PlainFile:
    """The picture in a file, and the metadata that counts.

    Attributes:
        data: the file without metadata; a structure that is not understood is left to Pillow as it came.
        orientation: EXIF's, 1 to 8; None where Pillow knows it better.
        profile: the ICC profile where it was asked for; None where Pillow knows it.
        is_cut: the file stops before its end.
    """

    data: bytes
    orientation: int | None = None
    profile: bytes | None = None
    is_cut: bool = False


def check_pieces(number: float) -> None:
    """Bound the pieces of metadata, each of which takes Python a while.

    Raises:
        InvalidImage: there are more than MAX_METADATA_PIECES.
    """
    if number > MAX_METADATA_PIECES:
        raise InvalidImage("The picture has too much metadata: send it without.", about=Part.IMAGE)
