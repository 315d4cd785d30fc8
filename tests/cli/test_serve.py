"""`blip2-serve serve` runs the real server from an empty folder, passes signals on and returns its exit code."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.demo import CAPTION, PICTURE
from support.serving import ROOT, free_port, server_environment


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the command in its own process group and an empty folder; yield it, once ready, with its URL."""
    port = free_port()
    command = [sys.executable, "-m", "blip2_serve", "serve", *arguments, "--port", str(port), "--host", "127.0.0.1"]
    (folder / "empty").mkdir()
    environment = {**server_environment(folder, variables), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder / "empty", env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, url, folder / "log")
        yield process, url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_it_answers_and_sigterm_ends_it_and_its_children(tmp_path: Path) -> None:
    with serving(tmp_path, "demo", "--dtype", "float32", BLIP2_MODEL="no/such-model") as (process, url):
        reply = httpx.post(f"{url}/generate", files={"img": PICTURE.read_bytes()}, timeout=60)
        assert (reply.status_code, reply.text, reply.headers["x-model"]) == (200, CAPTION, "demo")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/livez")
    assert "float32: set by BLIP2_DTYPE" in (tmp_path / "log").read_text()


def test_control_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    with serving(tmp_path, "demo") as (process, _):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the child gets it as well
        assert process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_it_ends_with_the_exit_code_of_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "blip2_serve", "serve", str(tmp_path), "--port", str(free_port())]
    done = subprocess.run(
        command, cwd=ROOT, env=server_environment(tmp_path, {}), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "blip2-serve cannot start: BLIP2_MODEL=" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
