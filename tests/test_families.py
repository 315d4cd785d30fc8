"""Code asks a family object; no module compares families or their names."""

import ast
from pathlib import Path

import pytest

from blip2_serve.families import FAMILIES, FLAN_T5, OPT, find_family

PACKAGE = Path(__file__).resolve().parent.parent / "blip2_serve"
TYPES = {"opt", "t5", "flan-t5", "blip-2", "instructblip", *(family.name for family in FAMILIES)}


def compared(path: Path) -> list[str]:
    """Find the comparisons in a module that involve a family or the name of one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "name" and "family" in ast.unparse(node.value).lower():
            found.append(f"{path.name}:{node.lineno}")
        if isinstance(node, ast.Compare | ast.match_case):
            parts = [part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.Name | ast.Attribute)]
            names = {part.id if isinstance(part, ast.Name) else getattr(part, "attr", None) for part in parts}
            texts = {part.value for part in parts if isinstance(part, ast.Constant)}
            if TYPES & texts or {"OPT", "FLAN_T5", "INSTRUCTBLIP_FLAN_T5", "model_type", "text_model_type"} & names:
                found.append(f"{path.name}:{node.lineno if isinstance(node, ast.Compare) else node.pattern.lineno}")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_compares_families(path: Path) -> None:
    # model/locate.py compares config.json's model_type to find the family or refuse the checkpoint.
    assert path.name == "locate.py" or compared(path) == []


def test_a_comparison_of_families_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('if family == "opt" or x in ("t5",) or family is OPT:\n    y = {"opt": 1}[loaded.family.name]\n')
    assert len(compared(module)) == 4


def test_a_checkpoint_is_recognised_by_the_types_in_its_config() -> None:
    assert find_family("blip-2", "opt") is OPT
    assert find_family("blip-2", "t5") is FLAN_T5
    assert find_family("blip-2", "llama") is None
    assert find_family(None, ["opt"]) is None


def test_no_two_families_are_recognised_by_the_same_types() -> None:
    assert len({(family.model_type, family.text_model_type) for family in FAMILIES}) == len(FAMILIES)
