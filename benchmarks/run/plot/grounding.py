"""Draws the share of wrong captions by the share that is told, from the newest results of `make measure-grounding`.

`make bench-plot` writes benchmarks/results/grounding-<model>.svg: whoever tells confident captions alone tells fewer
wrong ones.
"""

import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks import RESULTS
from benchmarks.run.plot.throughput import STABLE


def main() -> None:
    """Draw the newest results of each model."""
    newest = {json.loads(file.read_text())["model"]: file for file in sorted(RESULTS.glob("grounding-*.json"))}
    if not newest:
        raise SystemExit(f"{RESULTS} has no results to draw: run `make measure-grounding` first.")
    for model, file in newest.items():
        path = RESULTS / f"grounding-{model}.svg"
        draw(json.loads(file.read_text()), path)
        print(path)


def draw(told: dict[str, Any], path: Path) -> None:
    """Coverage along x, risk along y, and the risk of telling captions at random."""
    measured = told["confidence"]
    points = sorted((float(coverage), risk) for coverage, risk in measured["wrong at coverage"].items())
    with rc_context(STABLE):
        picture = Figure(figsize=(5, 3.4), layout="constrained")
        axes = picture.subplots()
        axes.plot(*zip(*points, strict=True), color="#0072B2", marker="o", label="the most confident ones")
        axes.axhline(1 - measured["right"], color="#D55E00", linestyle="dashed", label="any")
        axes.set(xlabel="captions that are told", ylabel="wrong ones among them", xlim=(0, 1.02), ylim=(0, None))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_title(f"{told['model']}, {measured['captions']} pictures, a third noisy, a third blurred", fontsize=9)
        axes.legend(frameon=False)
        picture.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
