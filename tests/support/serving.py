"""Runs the real server in a subprocess, as people run it, and waits until it is ready."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120
LOG_TIMEOUT_S = 10


@dataclass(frozen=True)
class Server:
    """A running server; `pid` is the parent of its workers."""

    url: str
    log: Path
    pid: int

    def logged(self, text: str) -> str:
        """Wait for `text` in the log and return all of it: a request's line is written after its answer is sent."""
        deadline = time.monotonic() + LOG_TIMEOUT_S
        while text not in (log := self.log.read_text()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log:\n{log[-4000:]}")
            time.sleep(0.05)
        return log


@contextmanager
def serve(home: Path, settings: Mapping[str, str], target: str = "service:Blip2", cwd: Path = ROOT) -> Iterator[Server]:
    """Run `bentoml serve` with `settings` in its environment; `home` holds its log and its BENTOML_HOME."""
    port, log = free_port(), home / "server.log"
    with log.open("wb") as output:
        process = start_server(home, settings, port, output, target, cwd)
    try:
        _wait_until_ready(process, port, log)
        yield Server(f"http://127.0.0.1:{port}", log, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def start_server(
    home: Path,
    settings: Mapping[str, str],
    port: int,
    output: IO[bytes] | int,
    target: str = "service:Blip2",
    cwd: Path = ROOT,
) -> subprocess.Popen[bytes]:
    """Start `bentoml serve` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", target, "--port", str(port), "--host", "127.0.0.1"],
        cwd=cwd,
        env=server_environment(home, settings),
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def server_environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return our own environment without BLIP2_*, then `settings`. Two servers must not share a BENTOML_HOME.

    The page at /ui is off unless `settings` ask for it: opening it takes seconds.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BLIP2_")}
    own = {"BENTOML_HOME": str(home / "bentoml"), "BENTOML_DO_NOT_TRACK": "True", "BLIP2_UI": "off"}
    return {**inherited, **own, **settings}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the server did not get ready:\n{log.read_text()[-4000:]}")
