"""`blip2-serve calibrate` learns confidence from pictures with their right captions."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blip2_serve.cli.calibrate import plain
from blip2_serve.cli.main import main
from blip2_serve.model.calibration import read
from training.pictures.judged import CAPTIONS, FIRST, write


def calibrate(folder: Path, captions: Path, output: Path) -> Result:
    arguments = ["calibrate", folder, captions, "--output", output]
    return CliRunner().invoke(main, list(map(str, arguments)), env={"BLIP2_MODEL": "demo"})


def test_confidence_is_learned_from_judged_pictures(tmp_path: Path) -> None:
    captions = write(tmp_path, range(FIRST, FIRST + 120))
    result = calibrate(tmp_path, captions, tmp_path / "confidence.json")
    assert result.exit_code == 0, result.output
    assert "120 captions" in result.stdout
    learned = read(tmp_path / "confidence.json")
    assert learned.num_captions == 120
    assert learned.confidence(-0.001) > 0.8 > learned.confidence(-20.0)
    assert json.loads((tmp_path / "confidence.json").read_text())["captions"] == 120


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    captions = write(tmp_path, range(FIRST, FIRST + 2))
    result = calibrate(tmp_path, captions, tmp_path / "confidence.json")
    assert (result.exit_code, (tmp_path / "confidence.json").exists()) == (1, False)
    assert "100 are the fewest" in result.output


def test_a_line_without_a_tab_is_named(tmp_path: Path) -> None:
    (tmp_path / CAPTIONS).write_text("a.jpeg\ta\nb.jpeg b\n")
    assert "line 2" in calibrate(tmp_path, tmp_path / CAPTIONS, tmp_path / "out").output


def test_a_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / CAPTIONS).write_text("".join(f"{number}.jpeg\ta\n" for number in range(100)))
    result = calibrate(tmp_path, tmp_path / CAPTIONS, tmp_path / "out")
    assert ".jpeg cannot be read (No such file or directory)" in result.output


@pytest.mark.parametrize("text", ["A red  circle.", "a red circle", " a red circle "])
def test_case_spaces_and_a_full_stop_make_no_caption_wrong(text: str) -> None:
    assert plain(text) == "a red circle"
