"""Colours: by default the reference's, whatever profile a picture has; by its profile where that is asked for."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from transformers import BlipImageProcessor

from blip2_serve.images import load_image, squash
from blip2_serve.images.decoder_pool import DecoderPool
from blip2_serve.images.reading import Reading
from support.images import odd_files as files
from support.images.profiles import cmyk_profile, srgb_profile, wide_gamut_profile

LIMIT = 50_000_000
SRGB = Reading(converts_color=True)
WIDE, INKS = wide_gamut_profile(), cmyk_profile()
# Pure green of Display P3 is outside sRGB; half of it is (50, 131, 9) or so there. Figures of an 8-bit transform.
PURE = Image.new("RGB", (16, 16), (0, 128, 0))


def profiled(format_: str, mode: str) -> bytes:
    options = {"lossless": True} if format_ == "WEBP" else {}
    profile = INKS if mode == "CMYK" else WIDE
    return files.saved(files.photograph(mode=mode), format_, icc_profile=profile, **options)


CASES = [
    *[("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA")],
    *[("WEBP", "RGB"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("AVIF", "RGB")],
]


@pytest.mark.parametrize(("format_", "mode"), CASES)
def test_the_reference_sees_the_pixels_of_transformers_processor(format_: str, mode: str) -> None:
    data = profiled(format_, mode)
    image = Image.open(io.BytesIO(data))
    if image.has_transparency_data:  # laid on white here; the processor would drop what is opaque of it
        image.putalpha(255)
    processor = BlipImageProcessor(size={"height": 28, "width": 28}, do_rescale=False, do_normalize=False)
    expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = np.frombuffer(squash(load_image(data, LIMIT).image, 28, int(processor.resample)), np.uint8)
    assert np.array_equal(ours.reshape(28, 28, 3), expected.astype(np.uint8))


@pytest.mark.parametrize(("format_", "mode"), CASES)
def test_a_profile_that_is_followed_changes_what_it_should(format_: str, mode: str) -> None:
    data = profiled(format_, mode)
    plain, converted = (np.asarray(load_image(data, LIMIT, each).image, int) for each in (Reading(), SRGB))
    if mode in ("L", "LA"):
        assert np.abs(converted - plain).max() <= 20, "grey stays grey, by another curve"
        assert np.ptp(converted, axis=-1).max() <= 1
    else:
        assert np.abs(converted - plain).mean() > 1
    pool = DecoderPool(1, LIMIT, SRGB)
    try:
        assert pool.decode(data, 28, 3).pixels == squash(load_image(data, LIMIT, SRGB).image, 28, 3)
    finally:
        pool.close()


def test_wide_gamut_green_becomes_as_green_as_srgb_can() -> None:
    green = Image.new("RGB", (16, 16), (60, 200, 60))
    data = files.saved(green, "PNG", icc_profile=WIDE)
    red, other, blue = load_image(data, LIMIT, SRGB).image.getpixel((8, 8))  # type: ignore[misc]
    # By hand: P3's linear (60, 200, 60)/255 through its matrix to XYZ and sRGB's back.
    expected = by_hand(np.array([60, 200, 60]) / 255)
    assert np.abs(np.array([red, other, blue]) - expected).max() <= 2


def by_hand(values: np.ndarray) -> np.ndarray:
    """Convert a colour of the wide-gamut profile to sRGB, 0 to 255, with matrices alone."""
    to_xyz = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
    srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]])
    linear = (np.linalg.inv(srgb) @ to_xyz @ values**2.2).clip(0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(coded * 255)


def test_srgbs_own_profile_changes_next_to_nothing() -> None:
    data = files.saved(files.photograph(), "PNG", icc_profile=srgb_profile())
    plain, converted = (np.asarray(load_image(data, LIMIT, each).image, int) for each in (Reading(), SRGB))
    assert np.abs(converted - plain).max() <= 1


def test_transparent_parts_stay_white() -> None:
    image = Image.new("RGBA", (8, 8), (10, 200, 10, 0))
    image.paste((10, 200, 10, 255), (0, 0, 4, 8))
    picture = load_image(files.saved(image, "PNG", icc_profile=WIDE), LIMIT, SRGB).image
    assert picture.getpixel((7, 7)) == (255, 255, 255)
    assert picture.getpixel((1, 1)) not in ((255, 255, 255), (10, 200, 10))


@pytest.mark.parametrize(
    "broken",
    [
        lambda profile: b"",
        lambda profile: profile[:100],
        lambda profile: bytes(len(profile)),
        lambda profile: INKS,
        lambda profile: profile + bytes(5_000_000),
        lambda profile: profile[:16] + b"XXXX" + profile[20:],
    ],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_that_is_of_no_use_is_ignored(broken: Callable[[bytes], bytes], format_: str) -> None:
    data = files.saved(files.photograph(), format_, icc_profile=broken(WIDE))
    assert load_image(data, LIMIT, SRGB).image.tobytes() == load_image(data, LIMIT).image.tobytes()


def test_random_damage_to_a_profile_harms_nothing() -> None:
    pool, rng = DecoderPool(1, LIMIT, SRGB), np.random.default_rng(0)
    try:
        for profile, mode in ((WIDE, "RGB"), (INKS, "CMYK")):
            for _ in range(40):
                damaged = bytearray(profile)
                for place in rng.integers(0, len(profile), 5):
                    damaged[place] = rng.integers(0, 256)
                data = files.saved(files.photograph(mode=mode), "TIFF", icc_profile=bytes(damaged))
                assert len(pool.decode(data, 28, 3).pixels) == 28 * 28 * 3
    finally:
        pool.close()


def test_pictures_that_are_read_otherwise_have_other_keys() -> None:
    readings = [Reading(accepts, converts) for accepts in (False, True) for converts in (False, True)]
    keys = {reading.mark(bytes(32)) for reading in readings}
    assert len(keys) == 4
    assert Reading().mark(bytes(32)) == bytes(32), "folders of the default's image tokens stay valid"
    assert [Reading.unpack(reading.pack()) for reading in readings] == readings


@pytest.mark.parametrize(("format_", "mode"), CASES)
def test_a_large_picture_is_reduced_first_and_looks_the_same(
    format_: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    drawn = files.photograph(8, 6).resize((160, 120), Image.Resampling.BILINEAR).convert(mode)
    data = files.saved(drawn, format_, icc_profile=INKS if mode == "CMYK" else WIDE, **options)
    whole = load_image(data, LIMIT, SRGB).image
    monkeypatch.setattr("blip2_serve.images.pixels.color._MAX_PIXELS", 160 * 120 // 4)
    reduced = load_image(data, LIMIT, SRGB).image
    assert reduced.size == ((160, 120) if mode == "P" else (80, 60))
    small = [np.frombuffer(squash(image, 28, 3), np.uint8).astype(int) for image in (whole, reduced)]
    assert np.abs(small[0] - small[1]).mean() < 2
