"""Reads README.md and docs/api.md as a person does: commands, what they print, and the language of each block."""

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
REFERENCE = README.parent / "docs" / "api.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block of commands and what the document says they print (None where it says nothing)."""

    language: str
    code: str
    prints: str | None


def examples(document: Path = README) -> list[Example]:
    """Every bash and Python block in order, each with the text block right after it."""
    blocks = [(match.group(1), match.group(2)) for match in _BLOCK.finditer(document.read_text())]
    found = []
    for (language, code), following in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language in ("bash", "python"):
            found.append(Example(language, code, following[1] if following[0] == "text" else None))
    return found
