"""Runs a notebook without Jupyter: its code cells in order, in one namespace.

`python -m support.notebook NOTEBOOK RESULTS` writes a JSON list with an entry per cell: `printed`, its stdout, and
`shown`, the type of its last line's value, or null. A cell that raises ends the run.
nbclient with a kernel would do the same, and brings dozens of packages.
"""

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """Return the code cells of a notebook, in order."""
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def stored_output(cell: dict[str, Any]) -> str:
    """Return the output that a cell had when the notebook was saved."""
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def run_cell(source: str, namespace: dict[str, Any]) -> dict[str, str | None]:
    """Run one cell; it shows its last line if that is an expression."""
    module = ast.parse(source)
    last = module.body.pop() if module.body and isinstance(module.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(module, "<cell>", "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None
    return {"printed": printed.getvalue(), "shown": None if value is None else type(value).__name__}


def main() -> None:
    notebook, results = map(Path, sys.argv[1:])
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = ["".join(cell["source"]) for cell in code_cells(notebook)]
    results.write_text(json.dumps([run_cell(cell, namespace) for cell in cells]))


if __name__ == "__main__":
    main()
