"""Every command of README.md and docs/api.md is run against the demo checkpoint and prints what is said there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.readme import README, REFERENCE, Example, examples
from support.serving import ROOT, Server

from blip2_serve.config import Settings

STARTED_ELSEWHERE = {
    "make demo\n": "tests/e2e/test_make_demo.py",
    "make test\n": "this very run",
}
CALLS = [example for example in examples() + examples(REFERENCE) if example.code not in STARTED_ELSEWHERE]


@pytest.mark.parametrize("example", CALLS, ids=lambda example: example.code.splitlines()[-1][:60])
def test_the_example_prints_what_is_said_there(example: Example, demo: Server) -> None:
    printed = run(example, demo).strip()
    assert printed
    if example.prints is not None:
        assert printed == example.prints.strip()


def run(example: Example, demo: Server) -> str:
    code = example.code.replace("http://localhost:3000", demo.url).replace("localhost:3000", demo.url)
    interpreter = ["bash", "-euo", "pipefail", "-c"] if example.language == "bash" else [sys.executable, "-c"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*interpreter, code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_two_commands_lead() -> None:
    commands = [example.code for example in examples()]
    assert commands.index("make demo\n") == 0
    assert "make test\n" in commands


@pytest.mark.parametrize("document", [README, REFERENCE], ids=lambda document: document.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text())
    assert targets
    for target in targets:
        assert (document.parent / target).exists(), target


def test_every_setting_is_in_the_readme() -> None:
    text = Path(README).read_text()
    for name in Settings.model_fields:
        assert f"`BLIP2_{name.upper()}`" in text
