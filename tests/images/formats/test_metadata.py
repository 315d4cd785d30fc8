"""Metadata never decides: a picture is answered as if what is broken or enormous about it were not there."""

import io
import time
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from blip2_serve.errors import InvalidImage
from blip2_serve.images import load_image, squash
from blip2_serve.images.decoder_pool import DecoderPool
from blip2_serve.images.reading import Reading
from support.images import odd_files as files

LIMIT = 50_000_000
PHOTOGRAPH = files.photograph()
PNG = files.saved(PHOTOGRAPH, "PNG")
JPEG = files.saved(PHOTOGRAPH, "JPEG", quality=90)
WEBP = files.saved(PHOTOGRAPH, "WEBP", lossless=True)
AVIF, LYING_AVIF = files.turned_avif(PHOTOGRAPH, 1), files.turned_avif(PHOTOGRAPH, 6)


def all_odd_files() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield names, odd files, and the same pictures without oddities."""
    for format_, plain, odd in (
        ("png", PNG, files.odd_pngs(PNG)),
        ("jpeg", JPEG, files.odd_jpegs(JPEG)),
        ("webp", WEBP, files.odd_webps(PHOTOGRAPH)),
        ("tiff", PNG, files.odd_tiffs(PHOTOGRAPH)),
        ("avif", AVIF, files.odd_avifs(AVIF)),
        ("turned avif", LYING_AVIF, files.odd_avifs(LYING_AVIF)),
    ):
        yield from ((f"{format_}: {name}", data, plain) for name, data in odd)


ODD = list(all_odd_files())


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    running = DecoderPool(1, LIMIT)
    running.start()
    yield running
    running.close()


@pytest.mark.parametrize(("data", "plain"), [each[1:] for each in ODD], ids=[each[0] for each in ODD])
def test_a_picture_is_that_of_its_file_without_the_odd(pool: DecoderPool, data: bytes, plain: bytes) -> None:
    expected = load_image(plain, LIMIT).image
    image = load_image(data, LIMIT).image
    assert (image.size, image.tobytes()) == (expected.size, expected.tobytes())
    assert pool.decode(data, 28, 3).pixels == squash(expected, 28, 3)


@pytest.mark.parametrize(("data", "plain"), [each[1:] for each in ODD], ids=[each[0] for each in ODD])
def test_profiles_that_are_wanted_break_nothing_either(data: bytes, plain: bytes) -> None:
    reading = Reading(accepts_truncated=True, converts_color=True)
    picture = load_image(data, LIMIT, reading)
    assert picture.image.tobytes() == load_image(plain, LIMIT).image.tobytes()
    assert not picture.is_truncated


@pytest.mark.parametrize(
    ("data", "plain"),
    [(WEBP + bytes(70_000), WEBP), (JPEG[:2] + b"\xff" * 9_000 + JPEG[2:], JPEG)],
    ids=["zeros behind a WebP", "fill bytes in a JPEG"],
)
def test_padding_is_no_metadata(data: bytes, plain: bytes) -> None:
    assert load_image(data, LIMIT).image.tobytes() == load_image(plain, LIMIT).image.tobytes()


@pytest.mark.parametrize("name", files.TURNED_EXIF)
def test_an_orientation_is_read_whatever_stands_beside_it(name: str) -> None:
    exif = files.TURNED_EXIF[name]
    turned = PHOTOGRAPH.transpose(Image.Transpose.ROTATE_270)
    for data in (
        files.with_chunks(PNG, files.chunk(b"eXIf", exif)),
        files.with_chunks(PNG, behind=files.chunk(b"eXIf", exif)),
        files.extended_webp(PHOTOGRAPH, files.riff(b"EXIF", exif), flags=0x08),
    ):
        assert load_image(data, LIMIT).image.tobytes() == turned.tobytes()
    jpeg = files.with_segments(JPEG, files.segment(0xE1, b"Exif\0\0" + exif))
    assert load_image(jpeg, LIMIT).image.size == turned.size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_turns_as_pillow_does(orientation: int, format_: str) -> None:
    exif = Image.Exif()
    exif[files.ORIENTATION] = orientation
    data = files.saved(PHOTOGRAPH, format_, exif=exif)
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert load_image(data, LIMIT).image.tobytes() == expected.tobytes()


def test_an_orientation_that_only_xmp_or_an_old_text_knows_is_read() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    hexed = (b"Exif\0\0" + files.TURNED_EXIF["sound"]).hex()
    text = b"\nexif\n%8d\n%s\n" % (len(hexed) // 2, hexed.encode())
    name = b"Raw profile type exif\0"
    for data in (
        files.with_chunks(PNG, files.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        files.with_chunks(PNG, files.chunk(b"tEXt", name + text)),
        files.with_chunks(PNG, files.chunk(b"zTXt", name + b"\0" + zlib.compress(text))),
        files.with_segments(JPEG, files.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
        files.extended_webp(PHOTOGRAPH, files.riff(b"XMP ", xmp), flags=0x04),
    ):
        assert load_image(data, LIMIT).image.size == (48, 64)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
@pytest.mark.parametrize("accepts", [False, True])
def test_a_wrong_checksum_of_the_picture_itself_is_refused(kind: bytes, accepts: bool) -> None:
    data = bytearray(files.saved(PHOTOGRAPH.convert("P"), "PNG"))
    start = data.index(kind)
    data[start + 4 + int.from_bytes(data[start - 4 : start])] ^= 1
    with pytest.raises(InvalidImage, match="checksums"):
        load_image(bytes(data), LIMIT, Reading(accepts_truncated=accepts))


def test_a_transparency_of_a_wrong_checksum_is_dropped_and_a_right_one_kept() -> None:
    black = Image.new("RGB", (4, 4))
    png = files.saved(black, "PNG")
    clear, torn = (files.chunk(b"tRNS", bytes(6), wrong_crc=wrong) for wrong in (False, True))
    assert load_image(files.with_chunks(png, clear), LIMIT).image.getpixel((0, 0)) == (255, 255, 255)
    assert load_image(files.with_chunks(png, torn), LIMIT).image.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("transform", ["RGB", "YCCK", "CMYK"])
def test_what_tells_how_a_jpeg_codes_its_colours_is_kept(transform: str) -> None:
    if transform == "RGB":  # without an Adobe segment these components would be taken for YCbCr
        data = files.saved(PHOTOGRAPH, "JPEG", keep_rgb=True)
    else:
        data = files.saved(PHOTOGRAPH.convert("CMYK"), "JPEG")
        data = data.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2") if transform == "YCCK" else data
    assert b"Adobe" in data
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert load_image(data, LIMIT).image.tobytes() == expected.tobytes()


def test_empty_chunks_without_end_are_refused_soon() -> None:
    data = PNG[: files.PNG_HEAD] + files.chunk(b"IDAT", b"") * 1_000_000 + PNG[files.PNG_HEAD :]
    began = time.monotonic()
    with pytest.raises(InvalidImage, match="metadata"):
        load_image(data, LIMIT)
    assert time.monotonic() - began < 1
