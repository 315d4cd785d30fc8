"""The image built by the Bento's Dockerfile captions a picture as a normal user on a read-only root."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.bentos import build_bento, environment_with_tools, export_tracked_files
from support.demo import CAPTION, PICTURE
from support.serving import ROOT

TIMEOUT_S = 1500


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("buildah"), reason="needs root and buildah")
def test_the_image_captions_the_demo_picture(tmp_path: Path) -> None:
    bento = build_bento(export_tracked_files(tmp_path / "tree"), tmp_path)
    environment = {**environment_with_tools(), "BENTOML_HOME": str(bento.home), "TMPDIR": str(tmp_path)}
    caption = subprocess.check_output(
        [ROOT / "deploy/try-image.sh", bento.tag, PICTURE], env=environment, text=True, timeout=TIMEOUT_S
    )
    assert caption.strip() == CAPTION
    assert "tmp." not in {path.name[:4] for path in tmp_path.iterdir()}, "the script left its work behind"
