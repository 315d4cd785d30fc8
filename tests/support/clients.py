"""Tries real clients on the real demo server, each family in an environment of its own: `make test-clients`.

tests/clients/<family>.txt pins an environment and tests/clients/test_<family>.py is what runs in it. The server runs
in the project's own environment.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.serving import ROOT, serve

TESTS = ROOT / "tests" / "clients"
ENVIRONMENTS = ROOT / ".venv-clients"
DEMO = {"BLIP2_MODEL": "demo", "BLIP2_RETRIEVAL_MODEL": "demo-itm"}


def families() -> list[str]:
    """Names of all families."""
    return sorted(path.stem for path in TESTS.glob("*.txt"))


def environment(family: str) -> Path:
    """Make the family's environment unless it is as pinned; returns its Python."""
    folder, pins = ENVIRONMENTS / family, TESTS / f"{family}.txt"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        uv = [str(Path(sys.executable).parent / "uv"), "--quiet"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([*uv, "pip", "install", "--python", python, "-r", pins], check=True)
        stamp.write_text(pins.read_text())
    return python


def passes(family: str, python: Path, url: str) -> bool:
    """Run the family's tests against the server at `url`."""
    command = [python, "-m", "pytest", "-c", TESTS / "pytest.ini", TESTS / f"test_{family}.py"]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    print(f"== {family}", flush=True)
    return subprocess.run(command, env={**own, "CLIENTS_URL": url}, cwd=ROOT, check=False).returncode == 0


def main() -> None:
    """Try the families that are named, or all.

    Raises:
        SystemExit: the tests of some have failed.
    """
    pythons = {family: environment(family) for family in sys.argv[1:] or families()}
    with tempfile.TemporaryDirectory() as home, serve(Path(home), DEMO) as server:
        failed = [family for family, python in pythons.items() if not passes(family, python, server.url)]
    if failed:
        raise SystemExit(f"these clients have failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
