"""Decode bytes to an upright RGB picture, within limits, by content and never by the sender's Content-Type."""

import functools
import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from blip2_serve.errors import ImageTooLarge, InvalidImage, Part, UnsupportedImage

# Pillow's JPEG reader also opens MPO, the JPEG with a second picture in it that many phones write.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_FORMATS_IN_WORDS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
# Real files have a few hundred; this many of a GIF's blocks are 0.5 MB.
MAX_HEADER_PIECES = 4096
# JPEG's own limit. Resizing takes memory in proportion to the side, too: 2 GB for 50 million pixels.
MAX_SIDE = 65_535
_BAND_PIXELS = 1_000_000

Image.init()  # registers every reader; without it `formats` may name one that is not loaded yet
# Our own limit is checked once the header is read; Pillow's would warn in the middle of it.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns about odd but harmless metadata. Set once, here, because warning filters belong to the whole process.
warnings.filterwarnings("ignore", module="PIL")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: mode RGB, upright, first frame of an animation, transparent parts white.
        sha256: digest of the uploaded bytes, 32 bytes.
    """

    image: Image.Image
    sha256: bytes


def load_image(data: bytes, max_pixels: int) -> Picture:
    """Decode `data` in this process, which nothing protects from what a picture costs: see `decoder_pool`.

    Raises:
        InvalidImage: empty, cut short or damaged.
        UnsupportedImage: not one of `FORMATS`.
        ImageTooLarge: more than `max_pixels`, judged from the header before decoding, or a side above MAX_SIDE.
    """
    return Picture(decode_image(open_image(data, max_pixels)), hashlib.sha256(data).digest())


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header; raises as `load_image` does."""
    if not data:
        raise InvalidImage("The picture is empty: send the bytes of an image file.", about=Part.IMAGE)
    if size := _size_of_webp(data):
        _check_size(size, max_pixels)
    image = _open(data)
    _check_size(image.size, max_pixels)
    return image


def pixels_on_opening(data: bytes) -> int:
    """The pixels for which Pillow takes memory as soon as it opens a file: all of a WebP's, none of the others'."""
    width, height = _size_of_webp(data) or (0, 0)
    return width * height


def decode_image(image: Image.Image) -> Image.Image:
    """Decode an opened picture to upright RGB, transparent parts white.

    Pillow's readers raise anything on damaged files, RuntimeError and TypeError included.

    Raises:
        InvalidImage: cut short or damaged.
        MemoryError: more memory than the process may take.
    """
    try:
        image.load()
        vars(image).pop("_decoder", None)  # a WebP's keeps two canvases, 8 bytes a pixel
        return _to_rgb(_upright(image))
    except MemoryError:
        raise
    except Exception:
        raise InvalidImage("The picture is cut short or damaged: send it again.", about=Part.IMAGE) from None


def squash(image: Image.Image, side: int, resample: int) -> bytes:
    """Resize to `side` x `side`, bit-equal to BLIP's image processor; returns side * side * 3 RGB bytes, line by line.

    `resample` is Pillow's number for a filter; BLIP-2's checkpoints say 3, bicubic.
    """
    return image.resize((side, side), Image.Resampling(resample)).tobytes()


class _Header(io.BytesIO):
    """A file that allows a limited number of reads while the header is parsed.

    Pillow reads metadata piece by piece in Python and joins some of it (GIF comments, JPEG Exif) in quadratic time:
    18 MB took 90 seconds.
    """

    pieces_left: float = MAX_HEADER_PIECES

    def read(self, size: int | None = -1, /) -> bytes:
        self.pieces_left -= 1
        if self.pieces_left < 0:
            raise InvalidImage("The picture has too much metadata: send it without.", about=Part.IMAGE)
        return super().read(size)


def _open(data: bytes) -> Image.Image:
    file = _Header(data)
    try:
        image = Image.open(file, formats=FORMATS)
        file.pieces_left = math.inf
        return image
    except (InvalidImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnsupportedImage(
            f"The file is not a picture that can be read: send {_FORMATS_IN_WORDS}.", about=Part.IMAGE
        ) from None
    except Exception:  # see decode_image
        raise InvalidImage("The picture's header is damaged: send it again.", about=Part.IMAGE) from None


def _size_of_webp(data: bytes) -> tuple[int, int] | None:
    """Width and height from the first chunk of a WebP (RFC 9649), None for anything else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    number = functools.partial(int.from_bytes, byteorder="little")
    match data[12:16]:
        case b"VP8X":
            return number(data[24:27]) + 1, number(data[27:30]) + 1
        case b"VP8L":
            bits = number(data[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return number(data[26:28]) & 0x3FFF, number(data[28:30]) & 0x3FFF
    return None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"The picture has {width} x {height} pixels, and {MAX_SIDE} is the longest side that is taken: scale it"
            " down.",
            about=Part.IMAGE,
        )
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The picture has {width} x {height} pixels, more than the {max_pixels} that are taken: scale it down.",
            about=Part.IMAGE,
        )
    if not width or not height:
        raise InvalidImage("The picture has no pixels: send another.", about=Part.IMAGE)


def _upright(image: Image.Image) -> Image.Image:
    """Rotate as the EXIF orientation says; unreadable metadata rotates nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return _on_white(image)
    return image.convert("RGB")


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield (top, band) pairs: work on one band at a time takes little memory."""
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16- or 32-bit grey to 8 bits; Pillow's own conversion would clip everything above 255 to white."""
    white = _white_level(image)
    grey = Image.new("L", image.size)
    for top, band in _bands(image):
        values = np.asarray(band, dtype=np.float64)
        grey.paste(Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8)), (0, top))
    return grey


def _white_level(image: Image.Image) -> float:
    """The value of white: fixed in 16-bit modes, else the smallest usual range that holds all values."""
    if image.mode.startswith("I;16"):
        return 65535.0
    brightest = max(float(np.asarray(band).max()) for _, band in _bands(image))
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((level for level in usual if brightest <= level), max(brightest, 1.0))


def _on_white(image: Image.Image) -> Image.Image:
    """Lay a picture on white; equal to `Image.alpha_composite`, rounding included, in two thirds of its time."""
    opaque = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
    result = Image.new("RGB", image.size, "white")
    for top, band in _bands(image):
        band = band.convert(opaque).convert("RGBA")
        result.paste(band.convert("RGB"), (0, top), mask=band)
    return result
