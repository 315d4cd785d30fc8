"""Strangers' bytes become upright RGB pictures or one clear refusal."""

import contextlib
import hashlib
import io
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from blip2_serve.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from blip2_serve.images import load_image
from support.pictures import encode, gradient, jpeg, png_header_of
from support.serving import ROOT

LIMIT = 50_000_000
RED = (255, 0, 0)


def decoded(data: bytes) -> Image.Image:
    return load_image(data, LIMIT).image


def grey_of(data: bytes) -> list[int]:
    """Return the red channel of a picture that is one pixel high."""
    values: list[int] = np.asarray(decoded(data))[0, :, 0].tolist()
    return values


@pytest.mark.parametrize("format_", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_format_is_read_by_content(format_: str) -> None:
    image = decoded(encode(gradient(), format_))
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(image, int) - np.asarray(gradient(), int)).mean() < 12


def test_the_hash_is_of_the_uploaded_bytes() -> None:
    assert load_image(jpeg(), LIMIT).sha256 == hashlib.sha256(jpeg()).digest()


def test_a_photo_is_turned_upright_by_its_exif() -> None:
    lying = Image.new("RGB", (40, 20), "blue")
    lying.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[274] = 6  # the camera was held a quarter turn to the right
    image = decoded(encode(lying, "PNG", exif=exif))
    assert image.size == (20, 40)
    assert image.getpixel((10, 10)) == RED


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_a_senseless_orientation_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    assert decoded(encode(gradient(), "JPEG", exif=exif)).size == (64, 48)


def test_damaged_exif_is_ignored() -> None:
    assert decoded(encode(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")).size == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "LAB", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    format_ = "PNG" if mode in ("1", "L", "LA", "P", "RGBA", "I;16") else "TIFF"
    source = gradient().convert("L") if mode[0] in "IF" else gradient()
    assert decoded(encode(source.convert(mode), format_)).mode == "RGB"


def test_sixteen_bit_grey_is_scaled_and_not_cut_off() -> None:
    levels = np.array([[0, 0x4000, 0x8000, 0xFFFF]], dtype=np.uint16)
    assert grey_of(encode(Image.fromarray(levels))) == [0, 64, 128, 255]


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floating_point_grey_is_scaled_by_its_range(white: float) -> None:
    levels = np.array([[0, white / 2, white]], dtype=np.float32)
    assert grey_of(encode(Image.fromarray(levels), "TIFF")) == [0, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    result = decoded(encode(image.convert(mode), "PNG"))
    assert (result.getpixel((1, 1)), result.getpixel((6, 6))) == ((0, 0, 0), (255, 255, 255))


def test_every_value_at_every_alpha_is_laid_on_white_as_pillow_composites_it() -> None:
    values, alphas = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    image = Image.fromarray(np.stack([values, values[::-1], values[:, ::-1], alphas], axis=-1))
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert decoded(encode(image, "PNG")) == expected


def test_a_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    image = Image.new("RGB", (4, 4), RED)
    assert decoded(encode(image, "PNG", transparency=RED)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format_: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:])
    red, _, blue = decoded(data).getpixel((4, 4))  # type: ignore[misc]
    assert red > 200 > 55 > blue


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
def test_odd_sizes_are_read(size: tuple[int, int]) -> None:
    assert decoded(encode(Image.new("RGB", size, "red"))).size == size


def test_nothing_is_refused_as_empty() -> None:
    with pytest.raises(InvalidImage, match="empty"):
        decoded(b"")


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7", b"\x00" * 100, b"<svg></svg>", b"8BPS" + b"\x00" * 100])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        decoded(data)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_refused_and_never_crashes(format_: str, share: float) -> None:
    whole = encode(gradient(200, 150), format_)
    with pytest.raises((InvalidImage, UnsupportedImage)):
        decoded(whole[: int(len(whole) * share)])


def test_the_number_of_pixels_is_judged_from_the_header() -> None:
    with pytest.raises(ImageTooLarge, match="30000 x 30000"):
        decoded(png_header_of(30_000, 30_000))


def test_a_picture_of_exactly_the_limit_is_taken() -> None:
    data = encode(Image.new("RGB", (20, 10)))
    assert load_image(data, 200).image.size == (20, 10)
    with pytest.raises(ImageTooLarge):
        load_image(data, 199)


def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(0)
    for format_ in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        whole = encode(gradient(), format_)
        for _ in range(60):
            damaged = bytearray(whole)
            for position in rng.integers(0, len(whole), 4):
                damaged[position] = rng.integers(0, 256)
            with contextlib.suppress(InvalidImage, UnsupportedImage, ImageTooLarge):
                assert decoded(bytes(damaged)).mode == "RGB"


def gif_with_comments(num_bytes: int) -> bytes:
    """Make a GIF whose comment comes in blocks of the greatest length."""
    whole = encode(gradient(), "GIF")
    palette_end = 13 + (3 << ((whole[10] & 7) + 1))
    blocks = (b"\xff" + b"x" * 255) * (num_bytes // 256)
    return whole[:palette_end] + b"!\xfe" + blocks + b"\0" + whole[palette_end:]


def jpeg_with_segments(num_bytes: int, segment: bytes) -> bytes:
    """Make a JPEG with `segment` before everything else, again and again."""
    return jpeg()[:2] + segment * (num_bytes // len(segment)) + jpeg()[2:]


EXIF = b"\xff\xe1\1\0Exif\0\0" + b"x" * 248


@pytest.mark.parametrize(
    "data",
    [
        gif_with_comments(18_000_000),
        jpeg_with_segments(18_000_000, EXIF),
        jpeg_with_segments(18_000_000, b"\xff\xe0\0\2"),
        encode(gradient())[:33] + b"\0\0\0\0prIv\x9d\x0e\xb7\xbb" * 1_500_000 + encode(gradient())[33:],
    ],
    ids=["gif comment", "jpeg exif", "jpeg segments", "png chunks"],
)
def test_megabytes_of_metadata_in_pieces_are_refused_within_a_second(data: bytes) -> None:
    began = time.monotonic()
    with pytest.raises((InvalidImage, UnsupportedImage)):
        decoded(data)
    assert time.monotonic() - began < 1


def test_usual_amounts_of_metadata_are_taken() -> None:
    assert decoded(gif_with_comments(400_000)).size == (64, 48)
    assert decoded(jpeg_with_segments(200_000, EXIF)).size == (64, 48)
    depth_map = b"\xff\xe1\xff\xffhttp://ns.adobe.com/xmp/extension/\0" + b"x" * (65533 - 35)
    assert decoded(jpeg_with_segments(8_000_000, depth_map)).size == (64, 48)


def test_ordinary_pictures_are_bit_equal_to_pillows() -> None:
    for data in (
        jpeg(),
        encode(gradient()),
        encode(gradient().convert("L")),
        encode(gradient().convert("CMYK"), "JPEG"),
    ):
        assert decoded(data).tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_in_bands_is_pixel_equal_to_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = gradient(61, 53)
    image.putalpha(gradient(61, 53, seed=1).convert("L"))
    data = encode(image.convert(mode))
    whole = decoded(data)
    monkeypatch.setattr("blip2_serve.images.pixels.tones._BAND_PIXELS", 200)
    assert decoded(data).tobytes() == whole.tobytes()
    white = Image.new("RGBA", whole.size, "white")
    expected = Image.alpha_composite(white, Image.open(io.BytesIO(data)).convert("RGBA")).convert("RGB")
    assert whole.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("dtype", "format_"), [(np.uint16, "PNG"), (np.int32, "TIFF"), (np.float32, "TIFF")])
def test_deep_grey_in_bands_is_pixel_equal_to_the_whole(
    dtype: type, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (53, 61)).astype(dtype)
    levels[52, 60] = 65535  # the brightest is in the last band
    monkeypatch.setattr("blip2_serve.images.pixels.tones._BAND_PIXELS", 200)
    expected = (levels.astype(np.float64) / 65535 * 255).round().astype(np.uint8)
    assert np.array_equal(np.asarray(decoded(encode(Image.fromarray(levels), format_)))[:, :, 0], expected)


@pytest.mark.parametrize("size", [(1, 65_536), (50_000_000, 1)])
def test_a_side_that_no_camera_has_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge, match="65535"):
        decoded(png_header_of(*size))


def test_what_pillow_warns_of_is_not_printed() -> None:
    damaged = encode(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    script = "import sys, blip2_serve.images as i\ni.load_image(sys.stdin.buffer.read(), 10**6)"
    command = [sys.executable, "-W", "default::UserWarning", "-c", script]
    run = subprocess.run(command, input=damaged, cwd=ROOT, capture_output=True, check=True)
    assert run.stderr == b""


def test_the_filters_of_warnings_are_left_alone_as_other_threads_share_them() -> None:
    with mock.patch("warnings.catch_warnings", side_effect=AssertionError):
        assert decoded(jpeg()).size == (64, 48)
