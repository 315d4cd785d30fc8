"""Ours against other ways to serve BLIP-2, on the same checkpoint, machine and pictures, in alternation.

`make bench`: the table of benchmarks/README.md, medians of three rounds. In a round each server is asked in
turn, while the others are up and idle. `make bench-full` (`--full`): more numbers of clients, open loops, conversations
and beams, written to benchmarks/results/ with the date. The table goes to stdout; its last line is JSON.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from benchmarks import RESULTS
from benchmarks.compare.checkpoints import Checkpoint, checkpoint
from benchmarks.compare.contestants import Measure, Poisson, Task, contestants
from benchmarks.compare.outcome import Results, outcome
from benchmarks.compare.plan import Plan, capacity_setting, plan
from benchmarks.compare.report import as_json, table
from benchmarks.compare.table import COMPARISONS, Closed, Comparison, Open, Setting
from benchmarks.measure.measured import Measured, median

CHECKPOINTS = ("demo", "base")
WARM_UP_S = 2.0


def main() -> None:
    """Measure and report."""
    options = parse_arguments()
    comparisons = [
        comparison for comparison in COMPARISONS if _is_wanted(comparison, options.checkpoints, options.rows)
    ]
    to_do = plan(comparisons, options.checkpoints if options.full else (), options.rows)
    if not to_do:
        raise SystemExit(f"No row has {' or '.join(options.rows)} in its name: leave --rows out to see them all.")
    # As Ctrl-C does: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    results = run(to_do, options.rounds, options.seconds)
    outcomes = [outcome(comparison, results) for comparison in comparisons]
    told = as_json(outcomes, results, rounds=options.rounds, seconds=options.seconds, full=options.full)
    line = json.dumps(told)
    if options.save or options.full:
        (RESULTS / f"bench-{'full-' if options.full else ''}{told['date']}.json").write_text(line + "\n")
    print(table(outcomes))
    print(line)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[""], help="only what has one of these in its name")
    parser.add_argument("--checkpoints", type=_names, default=CHECKPOINTS, help="demo, base, or demo,base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of a measurement; else as compare/checkpoints.py has it")
    parser.add_argument("--full", action="store_true", help="everything else, too")
    parser.add_argument("--save", action="store_true", help="write a dated file, as --full does")
    return parser.parse_args()


def run(to_do: Plan, rounds: int, seconds: float | None) -> Results:
    """Measure all settings, checkpoint by checkpoint; only one checkpoint's servers are up."""
    results: dict[Setting, dict[str, list[Measured]]] = {}
    total = rounds * sum(map(len, to_do.values()))
    with tqdm(total=total, unit="measurement") as progress:
        for name in dict.fromkeys(setting.checkpoint for setting in to_do):
            settings = {setting: names for setting, names in to_do.items() if setting.checkpoint == name}
            progress.set_description(f"{name}: starting")
            served = checkpoint(name)
            with contestants(served, {each for names in settings.values() for each in names}) as ready:
                for setting, names in settings.items():
                    asked = {each: ready[each] for each in names}
                    times = _times(setting, served, seconds)
                    results[setting] = _rounds(setting, asked, rounds, times, results, progress)
    return results


def _rounds(
    setting: Setting,
    asked: Mapping[str, Measure],
    rounds: int,
    times: Mapping[str, float],
    results: Results,
    progress: "tqdm[Any]",
) -> dict[str, list[Measured]]:
    """Each in turn, so many times. Pictures are new for every setting and round, and the same for all in it."""
    measured: dict[str, list[Measured]] = {name: [] for name in asked}
    load = _offered(setting, results)
    for number in range(rounds):
        for name, measure in asked.items():
            progress.set_description(f"{setting}, {name}")
            task = Task(setting.workload, load, f"{setting} {number}", **times)
            measured[name].append(measure(task))
            progress.update()
    return measured


def _offered(setting: Setting, results: Results) -> Closed | Poisson:
    """The load; the rate of an open loop is a share of what was measured before."""
    if isinstance(setting.load, Closed):
        return setting.load
    capacity = median(results[capacity_setting(setting)][setting.load.of]).requests_per_s
    return Poisson(setting.load.share * capacity)


def _times(setting: Setting, served: Checkpoint, seconds: float | None) -> dict[str, float]:
    """Arrivals at random are watched for twice as long."""
    measure_s = seconds or served.measure_s * (2 if isinstance(setting.load, Open) else 1)
    return {"warm_up_s": min(WARM_UP_S, measure_s), "measure_s": measure_s}


def _is_wanted(comparison: Comparison, checkpoints: Iterable[str], parts: Iterable[str]) -> bool:
    return comparison.setting.checkpoint in checkpoints and any(part in str(comparison) for part in parts)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in CHECKPOINTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is not a checkpoint of the benchmark: give demo, base or both")
    return names


if __name__ == "__main__":
    main()
