"""The whole command on the demo checkpoint, with real servers: short, so its figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare.checkpoints import checkpoint
from benchmarks.compare.contestants import Task, contestants
from benchmarks.compare.table import Closed
from benchmarks.run.bench import main
from support.serving import ROOT


def test_one_row_is_measured_and_told() -> None:
    arguments = ["--checkpoints", "demo", "--rows", "W1, 1 client", "--rounds", "1", "--seconds", "1"]
    command = [sys.executable, "-m", "benchmarks.run.bench", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert ran.returncode == 0, ran.stderr[-2000:]
    *lines, last = ran.stdout.splitlines()
    assert lines[0] == "| row | ours | theirs | ratio | bar | stretch | |"
    assert lines[2].startswith("| demo W1, 1 client, p50 against (a) |")
    told = json.loads(last)
    assert [each["name"] for each in told["measured"]] == ["ours", "a"]
    assert all(0 < each["p50_s"] <= each["p99_s"] for each in told["measured"])
    assert all(each["cpu_s_per_request"] > 0 and each["peak_mb"] > 100 for each in told["measured"])


def test_the_static_batch_and_the_floor_are_measured_without_a_server() -> None:
    with contestants(checkpoint("demo"), ["static", "floor"]) as ready:
        task = Task("W1", Closed(32), "test", warm_up_s=0, measure_s=0.1)
        static, floor = (ready[name](task) for name in ("static", "floor"))
    assert 0 < static.requests_per_s < floor.requests_per_s
    assert static.cpu_s_per_request is not None
    assert static.cpu_s_per_request > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rows", "W9"), "No row has W9 in its name"),
        (("--checkpoints", "demo,large"), "large is not a checkpoint of the benchmark"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_starts(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert says in f"{end.value} {capsys.readouterr().err}"


@pytest.fixture
def told() -> dict[str, Any]:
    figures = {"requests_per_s": 5.0, "p50_s": 0.2, "p99_s": 0.4}
    measured = [
        {"checkpoint": "demo", "workload": "W1", "name": name, "clients": clients, **figures}
        for name in ("ours", "a", "b")
        for clients in (128, 1, 32, 8)
    ]
    other = {"checkpoint": "demo", "workload": "W1", "name": "ours", "share": 0.5, "of": "b", **figures}
    return {"date": "2026-11-21", "cores": 2, "full": True, "measured": [*measured, other]}


def test_the_plot_shows_the_newest_full_run(told: dict[str, Any], tmp_path: Path) -> None:
    plot = pytest.importorskip("benchmarks.run.plot.throughput", reason="make bench-plot installs what it needs")
    for name in ("bench-full-2026-11-20", "bench-full-2026-11-21", "bench-2026-11-22"):
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    assert plot.newest(tmp_path).name == "bench-full-2026-11-21.json"
    assert [each["clients"] for each in plot.curve(told, "demo", "ours")] == [1, 8, 32, 128]
    plot.draw(told, "demo", tmp_path / "demo.svg")
    drawn = (tmp_path / "demo.svg").read_text()
    assert all(label in drawn for label in ("blip2-serve", "(a) tutorial", "(b) adaptive batching", "requests/s"))
