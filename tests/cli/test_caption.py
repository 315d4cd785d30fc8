"""`blip2-serve caption` captions pictures in its own process."""

from pathlib import Path

from click.testing import CliRunner, Result

from blip2_serve.cli.main import main
from support.demo import CAPTION, PICTURE
from support.serving import ROOT

TRIANGLE = ROOT / "blip2_serve/ui/examples/triangle.jpeg"
TRIANGLE_CAPTION = "a purple triangle on a black background"


def caption(*arguments: object, model: str = "demo") -> Result:
    return CliRunner().invoke(main, ["caption", *map(str, arguments)], env={"BLIP2_MODEL": model})


def test_one_picture_gives_its_caption_alone() -> None:
    result = caption(PICTURE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{CAPTION}\n", "")


def test_several_give_a_line_each_in_order() -> None:
    result = caption(TRIANGLE, PICTURE, TRIANGLE)
    lines = [f"{TRIANGLE}\t{TRIANGLE_CAPTION}", f"{PICTURE}\t{CAPTION}", f"{TRIANGLE}\t{TRIANGLE_CAPTION}"]
    assert (result.exit_code, result.stdout.splitlines(), result.stderr) == (0, lines, "")


def test_a_bad_picture_does_not_keep_the_others(tmp_path: Path) -> None:
    text = tmp_path / "text.jpeg"
    text.write_text("no picture")
    result = caption(tmp_path / "none.jpeg", PICTURE, text)
    assert (result.exit_code, result.stdout) == (1, f"{PICTURE}\t{CAPTION}\n")
    missing, unreadable = result.stderr.splitlines()
    assert missing == f"{tmp_path / 'none.jpeg'}: cannot be read (No such file or directory)."
    assert unreadable.startswith(f"{text}: The file is not a picture")


def test_options_reach_the_model() -> None:
    assert caption(TRIANGLE, "--max-new-tokens", "2", "--num-beams", "1").stdout == "a purple\n"
    assert caption(TRIANGLE, "--prefix", "a purple").stdout == f"{TRIANGLE_CAPTION}\n"


def test_the_option_names_another_model_than_the_environment() -> None:
    assert caption(PICTURE, "--model", "demo", model="no/such-model").stdout == f"{CAPTION}\n"


def test_options_out_of_bounds_are_refused() -> None:
    result = caption(PICTURE, "--num-beams", "17")
    assert result.exit_code == 2
    assert "1<=x<=16" in result.stderr


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    result = caption(PICTURE, model=str(tmp_path))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "config.json is missing" in result.stderr


def test_a_server_s_model_that_writes_nothing_is_refused() -> None:
    silent = {"BLIP2_MODEL": "none", "BLIP2_RETRIEVAL_MODEL": "demo-itm"}
    result = CliRunner().invoke(main, ["caption", str(PICTURE)], env=silent)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "writes no captions" in result.stderr
