"""examples/quickstart.ipynb runs from first cell to last and prints its stored output."""

import json
import os
import signal
import subprocess
import sys

import pytest

from support.notebook import code_cells, stored_output
from support.serving import ROOT, free_port, server_environment

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str | None]]:
    """The printed and displayed output of each code cell."""
    home = tmp_path_factory.mktemp("quickstart")
    notebook = home / "quickstart.ipynb"
    notebook.write_text(NOTEBOOK.read_text().replace("localhost:3000", f"localhost:{free_port()}"))
    environment = {**server_environment(home, {}), "PYTHONPATH": str(ROOT / "tests"), "PYTHONWARNINGS": "ignore"}
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.notebook", str(notebook), str(home / "results.json")],
            cwd=NOTEBOOK.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(180)
        finally:
            _end_group(process.pid)
    assert code == 0, log.read_text()[-4000:]
    found: list[dict[str, str | None]] = json.loads((home / "results.json").read_text())
    return found


def test_every_cell_prints_what_is_stored(results: list[dict[str, str | None]]) -> None:
    assert [result["printed"] for result in results] == [stored_output(cell) for cell in code_cells(NOTEBOOK)]


def test_it_shows_the_picture(results: list[dict[str, str | None]]) -> None:
    assert [result["shown"] for result in results if result["shown"]] == ["Image"]


def _end_group(group: int) -> None:
    """End the processes, above all the server, that a failed cell left behind."""
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return
