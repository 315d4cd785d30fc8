"""`make demo` prints one command to call the server, and that command works."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.readme import examples
from support.serving import ROOT, free_port, server_environment

READY = re.compile(r"blip2-serve is ready: (curl .*)")


@pytest.mark.slow
def test_make_demo_prints_a_curl_that_prints_the_caption(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["make", "demo", f"PORT={free_port()}"],
        cwd=ROOT,
        env=server_environment(tmp_path, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        command = next(found.group(1) for line in process.stdout if (found := READY.search(line)))
        caption = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
    assert caption == (examples()[1].prints or "").strip()
