"""Colours as a picture's own profile means them, in sRGB."""

import functools
import io
from typing import cast

from PIL import Image, ImageCms

# Profiles of printers' inks have up to 2 or 3 MB.
MAX_PROFILE_BYTES = 4 * 2**20
# Converting takes longer than decoding. What is larger is halved, or more, first: the model sees a small square anyway.
_MAX_PIXELS = 4_000_000
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by an ICC profile; a picture whose profile is missing, too large, broken or of another mode stays as is.

    Returns mode RGB or RGBA where it converts, reduced to about 4 million pixels. An alpha channel stays.
    """
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return _converted(_reduced(image), source, source.profile.xcolor_space.strip())
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image


def _reduced(image: Image.Image) -> Image.Image:
    """Average blocks of pixels, where their values are colours and none of them is a code."""
    factor = int((image.width * image.height / _MAX_PIXELS) ** 0.5)
    can_be = image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in image.info
    return image.reduce(factor) if factor > 1 and can_be else image


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile, space: str) -> Image.Image:
    if (image.mode, space) in (("CMYK", "CMYK"), ("L", "GRAY")) and not image.has_transparency_data:
        return _through(image, source, "RGB")
    if (image.mode, space) == ("LA", "GRAY"):
        grey, alpha = image.split()
        colored = _through(grey, source, "RGB")
        colored.putalpha(alpha)
        return colored
    if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and space == "RGB":
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return _through(image if image.mode == mode else image.convert(mode), source, mode)
    return image


def _through(image: Image.Image, source: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    converted = ImageCms.profileToProfile(image, source, _srgb(), _INTENT, mode, flags=flags)
    return cast(Image.Image, converted)  # None only where it is done in place


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
