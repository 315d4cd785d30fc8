"""Decode bytes to an upright RGB picture, within limits, by content and never by the sender's Content-Type."""

import functools
import hashlib
import io
import math
import warnings
from dataclasses import dataclass

from PIL import ExifTags, Image, UnidentifiedImageError

from blip2_serve.errors import ImageTooLarge, InvalidImage, Part, UnsupportedImage
from blip2_serve.images.formats import heif
from blip2_serve.images.formats.files import is_known, plain_file
from blip2_serve.images.formats.jpeg import load_cut_jpeg
from blip2_serve.images.formats.orientation import UPRIGHT
from blip2_serve.images.formats.plain import PlainFile, check_pieces
from blip2_serve.images.formats.png import load_cut_png
from blip2_serve.images.formats.unread import what_to_do
from blip2_serve.images.pixels.color import to_srgb
from blip2_serve.images.pixels.tones import on_white, to_8_bit
from blip2_serve.images.reading import REFERENCE, Reading

# And HEIC, told by its brand, where it has a reader.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_FORMATS_IN_WORDS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
# JPEG's own limit. Resizing takes memory in proportion to the side, too: 2 GB for 50 million pixels.
MAX_SIDE = 65_535
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

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
        is_truncated: the file is cut short, and the rest of the picture is black or grey.
    """

    image: Image.Image
    sha256: bytes
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class OpenedPicture:
    """A picture whose header is read, and its file without metadata."""

    image: Image.Image
    file: PlainFile


def load_image(data: bytes, max_pixels: int, reading: Reading = REFERENCE) -> Picture:
    """Decode `data` in this process, which nothing protects from what a picture costs: see `decoder_pool`.

    Raises:
        InvalidImage: empty, cut short or damaged.
        UnsupportedImage: not one of `FORMATS`.
        ImageTooLarge: more than `max_pixels`, judged from the header before decoding, or a side above MAX_SIDE.
    """
    image, is_truncated = decode_image(open_image(data, max_pixels, reading), reading)
    return Picture(image, hashlib.sha256(data).digest(), is_truncated)


def open_image(data: bytes, max_pixels: int, reading: Reading) -> OpenedPicture:
    """Take the metadata off and read the header; raises as `load_image` does."""
    if not data:
        raise InvalidImage("The picture is empty: send the bytes of an image file.", about=Part.IMAGE)
    if size := _size_of_webp(data):
        _check_size(size, max_pixels)
    file = plain_file(data, keeps_profile=reading.converts_color)
    image = _open(file.data)
    _check_size(image.size, max_pixels)
    return OpenedPicture(image, file)


def pixels_on_opening(data: bytes) -> int:
    """The pixels for which Pillow takes memory as soon as it opens a file: all of a WebP's, none of the others'."""
    width, height = _size_of_webp(data) or (0, 0)
    return width * height


def decode_image(opened: OpenedPicture, reading: Reading) -> tuple[Image.Image, bool]:
    """Decode an opened picture to upright RGB, transparent parts white; True with it if it is cut short.

    Pillow's readers raise anything on damaged files, RuntimeError and TypeError included.

    Raises:
        InvalidImage: damaged, or cut short where that is not accepted.
        MemoryError: more memory than the process may take.
    """
    try:
        image, is_whole = _loaded(opened, reading)
        if is_whole or reading.accepts_truncated:
            vars(image).pop("_decoder", None)  # a WebP's keeps two canvases, 8 bytes a pixel
            profile = _profile(opened) if reading.converts_color else None
            return _to_rgb(_upright(to_srgb(image, profile), _orientation(opened))), not is_whole
    except MemoryError:
        raise
    except Exception:
        pass
    raise InvalidImage("The picture is cut short or damaged: send it again.", about=Part.IMAGE)


def _loaded(opened: OpenedPicture, reading: Reading) -> tuple[Image.Image, bool]:
    """Decode the pixels; False if some are missing."""
    image = opened.image
    if image.format == "JPEG" and opened.file.is_cut:
        return load_cut_jpeg(opened.file.data)
    if image.format == "PNG" and reading.accepts_truncated:
        return image, load_cut_png(image, opened.file.data)
    image.load()
    return image, True


def _profile(opened: OpenedPicture) -> bytes | None:
    return opened.image.info.get("icc_profile") if opened.file.profile is None else opened.file.profile


def _orientation(opened: OpenedPicture) -> int:
    """The EXIF orientation; unreadable metadata rotates nothing."""
    if opened.file.orientation is not None:
        return opened.file.orientation
    try:
        return int(opened.image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:
        return UPRIGHT


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

    num_pieces: float = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.num_pieces += 1
        check_pieces(self.num_pieces)
        return super().read(size)


def _open(data: bytes) -> Image.Image:
    file = _Header(data)
    try:
        image = Image.open(file, formats=(heif.FORMAT,) if heif.is_heif(data) else FORMATS)
        file.num_pieces = -math.inf
        return image
    except (InvalidImage, MemoryError):
        raise
    except Exception as error:  # see decode_image
        if isinstance(error, UnidentifiedImageError) and not is_known(data):
            raise _unsupported(data) from None
        raise InvalidImage("The picture's header is damaged: send it again.", about=Part.IMAGE) from None


def _unsupported(data: bytes) -> UnsupportedImage:
    advice = what_to_do(data) or f"The file is not a picture that can be read: send {_FORMATS_IN_WORDS}."
    return UnsupportedImage(advice, about=Part.IMAGE)


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


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        image = to_8_bit(image)
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return on_white(image)
    return image.convert("RGB")
