"""Deep grey keeps its tones: usual ranges as they are, others over what there is, and what is no number is black."""

import numpy as np
import pytest
from PIL import Image

from blip2_serve.images import load_image
from support.pictures import encode

INF, NAN = float("inf"), float("nan")


def grey_of(values: list[float], dtype: type) -> list[int]:
    picture = load_image(encode(Image.fromarray(np.array([values], dtype=dtype)), "TIFF"), 10**6)
    found: list[int] = np.asarray(picture.image)[0, :, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 0.5, 1, NAN], [0, 128, 255, 0]),
        ([64, 128, 255, NAN], [64, 128, 255, 0]),
        ([0, 0.5, 1, INF, -INF], [0, 128, 255, 255, 0]),
        ([-1, 0, 1], [0, 128, 255]),
        ([-1, 0, 1, NAN, INF, -INF], [0, 128, 255, 0, 255, 0]),
        ([100_000, 150_000, 200_000], [0, 128, 255]),
        ([-3e38, 0, 3e38], [0, 128, 255]),
        ([NAN, NAN], [0, 0]),
        ([INF, -INF], [255, 0]),
        ([70_000, 70_000], [255, 255]),
        ([-7, -7], [0, 0]),
    ],
)
def test_floating_point_grey(values: list[float], grey: list[int]) -> None:
    assert grey_of(values, np.float32) == grey


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        ([0, 128, 255], [0, 128, 255]),
        ([0, 32768, 65535], [0, 128, 255]),
        ([-1000, 0, 1000], [0, 128, 255]),
        ([1_000_000, 1_500_000, 2_000_000], [0, 128, 255]),
        ([-(2**31), 0, 2**31 - 1], [0, 128, 255]),
    ],
)
def test_32_bit_grey(values: list[float], grey: list[int]) -> None:
    assert grey_of(values, np.int32) == grey


@pytest.mark.parametrize("values", [[0, 1, 255], [30_000, 40_000], [0, 32768, 65535]])
def test_16_bit_grey_is_white_at_65535_whatever_is_there(values: list[float]) -> None:
    assert grey_of(values, np.uint16) == [round(value / 65535 * 255) for value in values]


def test_bands_share_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(-5, 90_000, 53 * 61).reshape(53, 61).astype(np.float32)
    values[3, 3], values[50, 7] = NAN, NAN
    data = encode(Image.fromarray(values), "TIFF")
    whole = load_image(data, 10**6).image
    monkeypatch.setattr("blip2_serve.images.pixels.tones._BAND_PIXELS", 200)
    assert load_image(data, 10**6).image.tobytes() == whole.tobytes()
    expected = np.nan_to_num((values.astype(np.float64) + 5) / (90_000 + 5) * 255).round()
    assert np.abs(np.asarray(whole)[:, :, 0] - expected).max() <= 1
