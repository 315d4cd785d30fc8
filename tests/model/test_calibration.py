"""Confidence learned from judged captions: it rises with the likelihood, and comes out as often as it says."""

import math
import random
from pathlib import Path

import pytest

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.calibration import FILE, Calibration, expected_error, fit, read
from blip2_serve.model.files.fingerprint import fingerprint
from blip2_serve.model.load import load_model


def judged(count: int, seed: int) -> tuple[list[float], list[bool]]:
    """Captions that are right with the cube of the probability that the model gives them: it is too sure."""
    rng = random.Random(seed)
    numbers = [math.log(rng.uniform(0.05, 1.0)) for _ in range(count)]
    return numbers, [rng.random() < math.exp(number) ** 3 for number in numbers]


def test_confidence_comes_out_as_often_as_it_says() -> None:
    calibration = fit(*judged(4_000, 0))
    numbers, right = judged(4_000, 1)
    assert expected_error([calibration.confidence(number) for number in numbers], right) < 0.03
    assert expected_error([math.exp(number) for number in numbers], right) > 0.1


def test_confidence_never_falls_with_the_likelihood() -> None:
    calibration = fit(*judged(300, 2))
    told = [calibration.confidence(-3 + step / 100) for step in range(400)]
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1


@pytest.mark.parametrize(("right", "expected"), [([True] * 3, 1.0), ([False] * 3, 0.0), ([True, True, False], 2 / 3)])
def test_captions_that_cannot_be_told_apart_share_their_mean(right: list[bool], expected: float) -> None:
    calibration = fit([-3.0, -2.0, -1.0], right)
    assert calibration.confidence(-2.5) == pytest.approx(expected)


def test_there_is_something_to_learn_from() -> None:
    with pytest.raises(ValueError, match="no captions"):
        fit([], [])


def test_the_error_is_the_distance_in_each_bin() -> None:
    assert expected_error([0.95, 0.95, 0.15, 0.15], [True, False, False, False]) == pytest.approx((0.9 + 0.3) / 4)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    calibration = fit(*judged(300, 3))
    calibration.write(tmp_path / FILE)
    assert read(tmp_path / FILE) == calibration


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"points": []}',
        '{"captions": 1, "points": []}',
        '{"captions": 1, "points": [[0, 2]]}',
        '{"captions": 1, "points": [[0, 0.5], [1, 0.4]]}',
        '{"captions": 1, "points": [[1, 0.1], [0, 0.4]]}',
    ],
)
def test_a_damaged_file_ends_the_start_with_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(StartupError, match="no calibration"):
        read(tmp_path / FILE)


def test_a_checkpoint_brings_its_own_and_a_setting_wins(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in tiny_checkpoints["opt"].iterdir():
        (folder / file.name).symlink_to(file)
    before = fingerprint(folder, "copy")
    assert load_model(Settings(model=str(folder), device="cpu"), folder).calibration is None
    own, other = Calibration(((-1.0, 0.5),), 1), Calibration(((-1.0, 0.25),), 1)
    own.write(folder / FILE)
    other.write(tmp_path / "other.json")
    assert load_model(Settings(model=str(folder), device="cpu"), folder).calibration == own
    settings = Settings(model=str(folder), device="cpu", confidence_file=str(tmp_path / "other.json"))
    assert load_model(settings, folder).calibration == other
    assert fingerprint(folder, "copy") == before


def test_captions_of_one_likelihood_are_one_point(tmp_path: Path) -> None:
    fit([-1.0, -1.0, -0.5], [False, True, True]).write(tmp_path / FILE)
    assert read(tmp_path / FILE).confidence(-1.0) == pytest.approx(0.5)
