"""HEIC and HEIF, which iPhones write, by pillow-heif where it is installed: the extra `heif`.

Its wheels carry x265, so they are under the GPLv2, and nothing here needs them. Source of brands: ISO/IEC 23008-12.
"""

import functools

from blip2_serve.errors import Part, UnsupportedImage

FORMAT = "HEIF"
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_ANY = frozenset({b"mif1", b"msf1", b"mif2"})  # of pictures in whichever coding
_MAX_BRANDS = 32


def is_heif(data: bytes) -> bool:
    """True of a picture coded by HEVC; AVIF, in the same container, is Pillow's."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4]), 16 + 4 * _MAX_BRANDS)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    return data[8:12] in _BRANDS or (data[8:12] in _ANY and bool(brands & _BRANDS))


@functools.cache
def has_reader() -> bool:
    """Register pillow-heif with Pillow; False where it is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    # One thread and no by-pictures: a picture costs what its size allows.
    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    return True


def check_reader() -> None:
    """Check that HEIC can be read.

    Raises:
        UnsupportedImage: it cannot; the message says what to do.
    """
    if not has_reader():
        raise UnsupportedImage(
            "HEIC and HEIF are not read here: send the picture as JPEG, or install the extra heif where the server"
            " runs (pip install 'blip2-serve[heif]').",
            about=Part.IMAGE,
        )
