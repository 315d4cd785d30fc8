"""A JPEG or PNG that is cut short is refused, or what is there is taken: the same that Pillow would take."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFile

from blip2_serve.errors import InvalidImage
from blip2_serve.images import load_image
from blip2_serve.images.decoder_pool import DecoderPool
from blip2_serve.images.reading import Reading
from support.images.odd_files import photograph, saved
from support.serving import ROOT

LIMIT = 50_000_000
ACCEPT = Reading(accepts_truncated=True)
SIZE = (320, 240)
# Pillow's own switch is global to a process: the oracle has one of its own.
BY_PILLOW = """
import io, sys
from PIL import Image, ImageFile
ImageFile.LOAD_TRUNCATED_IMAGES = True
sys.stdout.buffer.write(Image.open(io.BytesIO(sys.stdin.buffer.read())).convert("RGB").tobytes())
"""


@cache
def whole(kind: str) -> bytes:
    format_, _, option = kind.partition(" ")
    if option == "CMYK":
        return saved(photograph(*SIZE, "CMYK"), format_)
    return saved(photograph(*SIZE), format_, **({option: True} if option else {}))


@cache
def restarting() -> bytes:
    return saved(photograph(*SIZE), "JPEG", restart_marker_rows=2)


def by_pillow(data: bytes) -> bytes:
    run = subprocess.run([sys.executable, "-c", BY_PILLOW], input=data, cwd=ROOT, capture_output=True, check=True)
    return run.stdout


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG progressive", "JPEG CMYK"])
@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
def test_what_is_there_is_what_pillow_would_take(kind: str, share: float) -> None:
    data = whole(kind)[: int(len(whole(kind)) * share)]
    with pytest.raises(InvalidImage, match="cut short"):
        load_image(data, LIMIT)
    picture = load_image(data, LIMIT, ACCEPT)
    assert picture.is_truncated
    assert picture.image.tobytes() == by_pillow(data)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG CMYK"])
def test_the_rows_that_are_there_are_those_of_the_whole(kind: str) -> None:
    data = whole(kind)[: int(len(whole(kind)) * 0.8)]
    taken, original = (np.asarray(load_image(each, LIMIT, ACCEPT).image) for each in (data, whole(kind)))
    rows = SIZE[1] * 7 // 10
    assert np.array_equal(taken[:rows], original[:rows])
    assert not np.array_equal(taken[-8:], original[-8:])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG progressive"])
@pytest.mark.parametrize("share", [0.01, 0.05])
def test_what_has_less_than_half_of_its_rows_is_refused_all_the_same(kind: str, share: float) -> None:
    with pytest.raises(InvalidImage):
        load_image(whole(kind)[: int(len(whole(kind)) * share)], LIMIT, ACCEPT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_third_of_the_rows_is_not_enough(kind: str) -> None:
    with pytest.raises(InvalidImage):
        load_image(whole(kind)[: len(whole(kind)) // 3], LIMIT, ACCEPT)


def test_every_place_where_a_jpeg_may_be_cut_is_told_from_its_end() -> None:
    for data in (saved(photograph(40, 24), "JPEG"), saved(photograph(40, 24), "JPEG", restart_marker_blocks=1)):
        image = load_image(data, LIMIT).image
        for cut in range(3, (len(data) - data.index(b"\xff\xda")) // 2):
            try:
                picture = load_image(data[:-cut], LIMIT, ACCEPT)
            except InvalidImage:
                continue
            # Bits that only fill up the last byte may be missing.
            assert picture.is_truncated or picture.image.tobytes() == image.tobytes(), cut


def test_a_jpeg_that_is_all_there_but_for_its_end_is_whole() -> None:
    for data in (whole("JPEG"), whole("JPEG progressive"), whole("JPEG CMYK"), restarting()):
        for reading in (Reading(), ACCEPT):
            for cut in (1, 2):
                picture = load_image(data[:-cut], LIMIT, reading)
                assert not picture.is_truncated
                assert picture.image.tobytes() == load_image(data, LIMIT).image.tobytes()


def test_a_progressive_jpeg_without_its_last_scans_is_cut() -> None:
    data = whole("JPEG progressive")
    for scan in (data.rindex(b"\xff\xda"), data.rindex(b"\xff\xc4"), data.rindex(b"\xff\xda") + 5):
        with pytest.raises(InvalidImage):
            load_image(data[:scan], LIMIT)
        assert load_image(data[:scan], LIMIT, ACCEPT).is_truncated


def test_an_interlaced_png_has_most_of_it_after_half_its_data() -> None:
    data = adam7(photograph(160, 120))
    assert load_image(data, LIMIT).image.tobytes() == photograph(160, 120).tobytes()
    assert load_image(data[: len(data) * 7 // 10], LIMIT, ACCEPT).is_truncated
    with pytest.raises(InvalidImage):
        load_image(data[: len(data) * 3 // 10], LIMIT, ACCEPT)


def adam7(image: Image.Image) -> bytes:
    """Write an interlaced PNG, which Pillow reads and does not write."""
    import struct
    import zlib

    from support.images.odd_files import chunk

    pixels = np.asarray(image)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.tobytes() for top, left, down, across in passes for row in pixels[top::down, left::across]
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("place", [0.3, 0.7])
def test_damage_inside_a_png_is_no_cut(place: float) -> None:
    data = bytearray(whole("PNG")[: int(len(whole("PNG")) * 0.9)])
    data[int(len(data) * place)] ^= 0xFF
    with pytest.raises(InvalidImage):
        load_image(bytes(data), LIMIT, ACCEPT)


@pytest.mark.parametrize("format_", ["WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_other_formats_that_are_cut_are_refused_all_the_same(format_: str) -> None:
    data = saved(photograph(), format_)
    with pytest.raises(InvalidImage):
        load_image(data[: len(data) * 9 // 10], LIMIT, ACCEPT)


def test_a_decoder_says_so_and_decodes_the_next_as_before() -> None:
    for reading in (Reading(), ACCEPT):
        pool = DecoderPool(1, LIMIT, reading)
        try:
            assert not pool.decode(whole("PNG"), 28, 3).is_truncated
            cut = whole("PNG")[: len(whole("PNG")) * 9 // 10]
            if reading == ACCEPT:
                assert pool.decode(cut, 28, 3).is_truncated
            else:
                with pytest.raises(InvalidImage):
                    pool.decode(cut, 28, 3)
            assert not pool.decode(whole("JPEG"), 28, 3).is_truncated
        finally:
            pool.close()
