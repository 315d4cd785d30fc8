"""Reads the README and the documents as a person does, and runs their commands and code."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
DOCS = README.parent / "docs"
REFERENCE = DOCS / "api.md"
PICTURES = DOCS / "pictures.md"
RECIPES = DOCS / "recipes.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block of code and the output that the document shows for it (None if it shows none)."""

    language: str
    code: str
    prints: str | None


def examples(*documents: Path) -> list[Example]:
    """Return every bash and Python block in order, each with the text block right after it; README.md by default."""
    return [example for document in documents or (README,) for example in _examples(document)]


def run(example: Example, url: str, folder: Path = README.parent) -> str:
    """Run a block in `folder`, with the server at `url` in place of localhost:3000; returns its output.

    Raises:
        AssertionError: the block failed.
    """
    code = example.code.replace("http://localhost:3000", url).replace("localhost:3000", url)
    interpreter = ["bash", "-euo", "pipefail", "-c"] if example.language == "bash" else [sys.executable, "-c"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*interpreter, code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _examples(document: Path) -> list[Example]:
    blocks = [(match.group(1), match.group(2)) for match in _BLOCK.finditer(document.read_text())]
    found = []
    for (language, code), following in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language in ("bash", "python"):
            found.append(Example(language, code, following[1] if following[0] == "text" else None))
    return found
