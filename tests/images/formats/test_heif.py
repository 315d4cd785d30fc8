"""HEIC, as iPhones write it, is read like other formats where pillow-heif is installed, and named where it is not."""

import io
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from blip2_serve.config import decoder_variables
from blip2_serve.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from blip2_serve.images import load_image, squash
from blip2_serve.images.decoder_pool import DecoderPool
from blip2_serve.images.formats import heif
from support.images import odd_files as files
from support.serving import ROOT

LIMIT = 50_000_000


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    running = DecoderPool(1, LIMIT)
    running.start()
    yield running
    running.close()


def heic(image: Image.Image, **options: object) -> bytes:
    assert heif.has_reader()
    return files.saved(image, "HEIF", quality=90, **options)


def distance(image: Image.Image, other: Image.Image) -> float:
    assert image.size == other.size
    return float(np.abs(np.asarray(image, int) - np.asarray(other, int)).mean())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("tile", [0, 64])
def test_heic_is_read_to_the_same_pixels_here_and_in_a_decoder(pool: DecoderPool, mode: str, tile: int) -> None:
    drawn = files.photograph(160, 120)
    data = heic(drawn.convert(mode), tile_size=tile)
    picture = load_image(data, LIMIT)
    assert distance(picture.image, drawn.convert(mode).convert("RGB")) < 12
    assert pool.decode(data, 28, 3).pixels == squash(picture.image, 28, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_turned_once(orientation: int) -> None:
    marked = Image.new("RGB", (96, 64), "blue")
    marked.paste("red", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[files.ORIENTATION] = orientation
    lying = files.saved(marked, "PNG", exif=exif)
    data = heic(marked, exif=exif.tobytes())
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    assert distance(load_image(data, LIMIT).image, load_image(lying, LIMIT).image) < 3


def test_of_several_pictures_the_primary_one_is_taken() -> None:
    several = pillow_heif.HeifFile()
    for color in ("red", "lime", "blue"):
        several.add_from_pillow(Image.new("RGB", (64, 64), color))
    file = io.BytesIO()
    several.save(file, primary_index=1)
    red, green, blue = load_image(file.getvalue(), LIMIT).image.getpixel((32, 32))  # type: ignore[misc]
    assert green > 200 > 55 > max(red, blue)


def test_heic_keeps_to_the_limits_of_all_pictures(pool: DecoderPool) -> None:
    data = heic(Image.new("RGB", (640, 480)))
    with pytest.raises(ImageTooLarge, match="640 x 480"):
        load_image(data, 640 * 480 - 1)
    for share in (0.05, 0.5, 0.9):
        with pytest.raises(InvalidImage):
            pool.decode(data[: int(len(data) * share)], 28, 3)
    assert pool.decode(data, 28, 3).pixels


@pytest.mark.parametrize("name", files.UNREADABLE_EXIF)
def test_unreadable_exif_of_a_heic_is_ignored(name: str) -> None:
    drawn = files.photograph()
    data = heic(drawn, exif=files.UNREADABLE_EXIF[name] or b"\0")
    assert distance(load_image(data, LIMIT).image, drawn) < 12


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_heic_is_named_where_it_is_not_read(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(files.photograph())
    data = data[:8] + brand + data[12:]
    monkeypatch.setattr(heif, "has_reader", lambda: False)
    with pytest.raises(
        UnsupportedImage, match=r"HEIC and HEIF are not read here: send the picture as JPEG.*extra heif"
    ):
        load_image(data, LIMIT)


def test_a_server_without_pillow_heif_reads_the_rest() -> None:
    script = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from blip2_serve.images import load_image\n"
        "print(load_image(sys.stdin.buffer.read(), 10**6).image.size)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        input=files.saved(files.photograph(), "AVIF"),
        env=decoder_variables(),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert run.stdout.strip() == b"(64, 48)"


def test_avif_in_a_general_brand_is_no_heic() -> None:
    data = files.saved(files.photograph(), "AVIF")
    assert not heif.is_heif(data)
    assert not heif.is_heif(data[:8] + b"mif1" + data[12:])
