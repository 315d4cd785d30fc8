"""The report of a run: a table to be read, and one JSON object with all of it."""

import datetime
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.compare.outcome import Outcome, Results
from benchmarks.compare.table import Comparison, Setting
from benchmarks.measure.measured import median
from blip2_serve.machine import available_cpus

_HEAD = "| row | ours | theirs | ratio | bar | stretch | |\n|---|---|---|---|---|---|---|"


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown, a line for each comparison, and below them those that are not met."""
    missed = [str(outcome.comparison) for outcome in outcomes if not outcome.met]
    verdict = f"Not met: {'; '.join(missed)}." if missed else "Every row is met."
    return "\n".join([_HEAD, *map(_line, outcomes), "", verdict])


def as_json(outcomes: Sequence[Outcome], results: Results, **about: Any) -> dict[str, Any]:
    """Where and when it was run, every comparison, and the medians of everything that was measured."""
    return {
        **machine(),
        **about,
        "rows": [_comparison(outcome) for outcome in outcomes],
        "measured": [
            {**_setting(setting), "name": name, **asdict(median(runs))}
            for setting, by_name in results.items()
            for name, runs in by_name.items()
        ],
    }


def machine() -> dict[str, Any]:
    """Date, CPU and versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return {
        "date": str(datetime.date.today()),
        "cpu": model[1] if model else platform.machine(),
        "cores": available_cpus(),
        "python": platform.python_version(),
        **{library: version(library) for library in ("torch", "transformers", "bentoml")},
    }


def _line(outcome: Outcome) -> str:
    comparison = outcome.comparison
    verdict = "stretch met" if outcome.stretch_met else "met" if outcome.met else "**not met**"
    cells = [
        str(comparison),
        _amount(comparison, outcome.ours),
        _amount(comparison, outcome.theirs),
        "not measured" if outcome.ratio is None else f"{outcome.ratio:.2f}x",
        _bar(comparison, comparison.bar),
        "" if comparison.stretch is None else _bar(comparison, comparison.stretch),
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _amount(comparison: Comparison, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}/s" if comparison.higher_is_better else f"{value * 1000:.1f} ms"


def _bar(comparison: Comparison, bar: float) -> str:
    return f"{'>=' if comparison.higher_is_better else '<='} {bar:g}x"


def _comparison(outcome: Outcome) -> dict[str, Any]:
    comparison = outcome.comparison
    return {
        "row": str(comparison),
        **_setting(comparison.setting),
        "figure": comparison.figure,
        "against": comparison.against,
        "ours": outcome.ours,
        "theirs": outcome.theirs,
        "ratio": outcome.ratio,
        "ratios": outcome.ratios,
        "bar": comparison.bar,
        "stretch": comparison.stretch,
        "met": outcome.met,
        "stretch_met": outcome.stretch_met,
    }


def _setting(setting: Setting) -> dict[str, Any]:
    """`clients` of a closed loop, `share` and `of` of an open one."""
    return {"checkpoint": setting.checkpoint, "workload": setting.workload, **asdict(setting.load)}
