"""Draws throughput and latency against the number of clients, from the newest results of `make bench-full`.

`make bench-plot` writes benchmarks/results/bench-<checkpoint>.svg: captions (W1) by ours and both peers.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks import RESULTS

# Okabe and Ito's palette, told apart by those who are colour-blind; line styles do it in print.
SERIES = {
    "ours": ("blip2-serve", "#0072B2", "o"),
    "b": ("(b) adaptive batching", "#009E73", "s"),
    "a": ("(a) tutorial", "#D55E00", "^"),
}
# The date in an SVG would make every drawing differ.
STABLE = {"svg.hashsalt": "blip2-serve", "svg.fonttype": "none", "font.size": 9}


def main() -> None:
    """Draw the newest results, a file for each checkpoint."""
    told = json.loads(newest(RESULTS).read_text())
    for checkpoint in sorted({each["checkpoint"] for each in told["measured"]}):
        path = RESULTS / f"bench-{checkpoint}.svg"
        draw(told, checkpoint, path)
        print(path)


def newest(folder: Path) -> Path:
    """The last dated file that `make bench-full` wrote."""
    files = sorted(folder.glob("bench-full-*.json"))
    if not files:
        raise SystemExit(f"{folder} has no results to draw: run `make bench-full` first.")
    return files[-1]


def curve(told: dict[str, Any], checkpoint: str, name: str) -> list[dict[str, Any]]:
    """Measurements of one server on W1, by number of clients."""
    wanted = {"checkpoint": checkpoint, "workload": "W1", "name": name}
    points = [each for each in told["measured"] if "clients" in each and wanted.items() <= each.items()]
    return sorted(points, key=lambda each: int(each["clients"]))


def draw(told: dict[str, Any], checkpoint: str, path: Path) -> None:
    """Two panels side by side: requests/s, and p50 with p99 above it."""
    with rc_context(STABLE):
        picture = Figure(figsize=(9, 3.6), layout="constrained")
        rate, latency = picture.subplots(1, 2)
        for name in SERIES:
            points = curve(told, checkpoint, name)
            if points:
                _line(rate, name, points, "requests_per_s", "solid", label=True)
                _line(latency, name, points, "p50_s", "solid", label=True)
                _line(latency, name, points, "p99_s", "dotted", label=False)
        rate.set(title="requests/s", ylim=(0, None))
        latency.set(title="latency in seconds: p50, and p99 dotted", yscale="log")
        latency.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        clients = sorted({each["clients"] for name in SERIES for each in curve(told, checkpoint, name)})
        for axes in (rate, latency):
            _dress(axes, clients)
        picture.suptitle(f"{checkpoint}: captions of 20 tokens, {told['cores']} cores, {told['date']}")
        picture.savefig(path, metadata={"Date": None})


def _line(axes: Any, name: str, points: Sequence[dict[str, Any]], figure: str, style: str, *, label: bool) -> None:
    title, color, marker = SERIES[name]
    values = [each[figure] for each in points]
    clients = [each["clients"] for each in points]
    axes.plot(clients, values, color=color, marker=marker, markersize=4, linestyle=style, linewidth=1.6)
    if label:
        place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(title, (clients[-1], values[-1]), color=color, annotation_clip=False, **place)


def _dress(axes: Any, clients: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(clients, [str(number) for number in clients])
    axes.set_xlabel("clients")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


if __name__ == "__main__":
    main()
