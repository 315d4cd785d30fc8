"""The tests' folders hold tests; whatever several of them need stands in support/ or in a conftest.py."""

from pathlib import Path

import pytest

from support.serving import ROOT

FILES = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_helper_stands_in_support(path: Path) -> None:
    assert path.parts[0] == "support" or path.name == "conftest.py" or path.name.startswith("test_")
