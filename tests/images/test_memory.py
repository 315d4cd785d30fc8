"""Memory for one picture is bounded by its pixels, for many by a budget."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from blip2_serve.images.budget import PixelBudget
from support.pictures import encode
from support.serving import ROOT

MEASURE = """
import resource, sys
from blip2_serve.images import load_image
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = load_image(data, 50_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(("mode", "bytes_per_pixel"), [("I;16", 10), ("RGBA", 10)])
def test_a_large_picture_takes_little_more_than_itself_and_its_rgb(mode: str, bytes_per_pixel: int) -> None:
    width, height = 5000, 4000
    if mode == "I;16":
        image = Image.fromarray(np.zeros((height, width), np.uint16))
    else:
        image = Image.new(mode, (width, height))
    grown = subprocess.run(
        [sys.executable, "-c", MEASURE], input=encode(image), cwd=ROOT, capture_output=True, check=True
    )
    assert int(grown.stdout) * 1024 < width * height * bytes_per_pixel + 50_000_000


def test_a_picture_larger_than_the_budget_is_taken_alone() -> None:
    budget = PixelBudget(50)
    with budget.claim(100):
        waiting = threading.Thread(target=lambda: budget.claim(1).__enter__())
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
