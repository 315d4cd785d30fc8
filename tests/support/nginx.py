"""Debian's nginx in front of a server, with the configuration that docs/deploy.md shows."""

import getpass
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.readme import DOCS
from support.serving import free_port

NGINX = Path("/usr/sbin/nginx")


def documented() -> str:
    """Return the configuration in docs/deploy.md."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```$", (DOCS / "deploy.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


@contextmanager
def proxying(url: str, folder: Path, configuration: str) -> Iterator[str]:
    """Run nginx as the only process there is of it, in front of the server at `url`; yield its own URL."""
    port = free_port()
    configuration = configuration.replace("127.0.0.1:3000", url.removeprefix("http://"))
    configuration = configuration.replace("listen 80;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"user {getpass.getuser()}; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{configuration}}}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")])
    try:
        _wait_until_it_answers(process, f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("nginx does not answer")
