"""Pictures are decoded in other processes, to the same pixels, and nothing that happens to one harms another."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from blip2_serve.config import decoder_variables
from blip2_serve.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from blip2_serve.images import decoder_pool as module
from blip2_serve.images import load_image, squash
from blip2_serve.images.decoder_pool import DecoderPool
from support.pictures import encode, gradient, jpeg, png_header_of

LIMIT = 50_000_000
BICUBIC = 3


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    running = DecoderPool(2, LIMIT)
    running.start()
    yield running
    running.close()


def lying(format_: str, mode: str = "RGB") -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encode(gradient().convert(mode), format_, exif=exif)


@pytest.mark.parametrize("format_", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pixels_are_those_of_this_process(pool: DecoderPool, format_: str) -> None:
    data = encode(gradient(), format_)
    assert pool.decode(data, 28, BICUBIC).pixels == squash(load_image(data, LIMIT).image, 28, BICUBIC)


@pytest.mark.parametrize("data", [lying("JPEG"), lying("PNG", "RGBA"), encode(gradient().convert("I"), "TIFF")])
def test_turned_transparent_and_deep_pictures_are_the_same_too(pool: DecoderPool, data: bytes) -> None:
    assert pool.decode(data, 28, BICUBIC).pixels == squash(load_image(data, LIMIT).image, 28, BICUBIC)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", InvalidImage),
        (b"no picture", UnsupportedImage),
        (jpeg()[:300], InvalidImage),
        (png_header_of(30_000, 30_000), ImageTooLarge),
    ],
)
def test_refusals_are_those_of_this_process(pool: DecoderPool, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as here:
        load_image(data, LIMIT)
    with pytest.raises(error) as there:
        pool.decode(data, 28, BICUBIC)
    assert str(there.value) == str(here.value)
    assert pool.decode(jpeg(), 28, BICUBIC)


def test_a_decoder_knows_neither_the_model_nor_the_web_nor_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    asked = (
        "import os, sys, blip2_serve.images.decoder\n"
        "print([name for name in ('torch', 'bentoml', 'transformers', 'gradio', 'httpx') if name in sys.modules])\n"
        "print(os.environ.get('HF_TOKEN'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", asked], env=decoder_variables(), capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == ["[]", "None"]


def test_a_decoder_that_dies_costs_its_own_picture_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecoderPool(1, LIMIT)
    pool.start()
    try:
        pool.decode(jpeg(), 28, BICUBIC)
        process = pool._idle[0]._process
        process.kill()
        process.wait()
        with pytest.raises(InvalidImage, match="cannot be read"):
            pool.decode(jpeg(), 28, BICUBIC)
        assert pool.decode(jpeg(), 28, BICUBIC)
    finally:
        pool.close()


def test_a_decoder_is_replaced_after_many_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PICTURES", 3)
    pool = DecoderPool(1, LIMIT)
    processes = set()
    for _ in range(7):
        pool.decode(jpeg(), 28, BICUBIC)
        processes.add(pool._idle[0]._process.pid)
    pool.close()
    assert len(processes) == 3


def test_no_process_is_left_when_the_pool_closes_or_its_owner_dies() -> None:
    script = (
        "import os, time\n"
        "from blip2_serve.images.decoder_pool import DecoderPool\n"
        "pool = DecoderPool(2, 10**6)\n"
        "pool.start()\n"
        "print(*(decoder._process.pid for decoder in pool._idle), flush=True)\n"
        "time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=decoder_variables())
    assert owner.stdout is not None
    pids = owner.stdout.readline().split()
    owner.kill()
    owner.communicate()
    until = time.monotonic() + 10
    while any(_runs(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_pictures_beyond_the_budget_wait_and_those_that_fail_give_it_back(pool: DecoderPool) -> None:
    budget = pool._budget
    with budget.claim(budget._pixels):
        waiting = threading.Thread(target=pool.decode, args=(jpeg(), 28, BICUBIC))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    with pytest.raises(InvalidImage):
        pool.decode(encode(gradient())[:100], 28, BICUBIC)
    assert budget._claimed == 0
