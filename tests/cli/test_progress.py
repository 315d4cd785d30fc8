"""The progress bar appears on a terminal, and never in output that a script reads."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from support.demo import PICTURE
from support.serving import ROOT, server_environment


def test_the_bar_is_on_a_terminals_stderr_and_stdout_stays_clean(tmp_path: Path) -> None:
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-m", "blip2_serve", "caption", "--model", "demo", str(PICTURE), str(PICTURE)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=server_environment(tmp_path, {}), stdout=subprocess.PIPE, stderr=stderr, timeout=60
        )
        shown = os.read(terminal, 65_536).decode()
    finally:
        os.close(stderr)
        os.close(terminal)
    assert "100%" in shown
    assert len(done.stdout.splitlines()) == 2
    assert b"%" not in done.stdout
