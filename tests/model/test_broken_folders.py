"""A folder that cannot be served gets one line that says what is wrong and what to do, in `check` as in the server."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from blip2_serve.cli.main import main
from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.model.models import check_start
from support.broken import BROKEN, break_folder


@pytest.mark.parametrize("kind", BROKEN)
def test_a_folder_that_cannot_be_served_gets_one_line(
    kind: str, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoints["opt"], tmp_path / "mine"))
    said = break_folder(folder, kind)
    with pytest.raises(StartupError) as caught:
        check_start(Settings(model=str(folder), device="cpu"))
    message = caught.value.message
    assert said in message
    assert message.startswith(f"BLIP2_MODEL={str(folder)!r}")
    assert "\n" not in message
    assert len(message) < 400
    shown = CliRunner().invoke(main, ["check", str(folder)])
    assert (shown.exit_code, shown.stdout, shown.stderr) == (1, "", f"Error: {message}\n")


def test_a_file_of_lavis_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "blip2_pretrained_opt2.7b.pth"
    file.write_bytes(b"")
    with pytest.raises(StartupError, match=r"\.pth' is a file of LAVIS's, which is not read: use the model's name"):
        check_start(Settings(model=str(file), device="cpu"))
