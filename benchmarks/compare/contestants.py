"""Everything that is compared on one checkpoint, started, and asked in turn."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from benchmarks.compare.checkpoints import Checkpoint
from benchmarks.compare.table import CAPACITY_CLIENTS, Closed
from benchmarks.compare.targets import TARGETS, started
from benchmarks.compare.without_http import floor, static_batches
from benchmarks.measure.load import Target, closed_loop, open_loop
from benchmarks.measure.measured import Measured
from benchmarks.measure.posts import to_ours_streamed
from benchmarks.measure.workloads import WORKLOADS


@dataclass(frozen=True)
class Poisson:
    """Arrivals at random, so many a second."""

    rate: float


@dataclass(frozen=True)
class Task:
    """One measurement: `series` names the pictures, and is the same for all that are compared."""

    workload: str
    load: Closed | Poisson
    series: str
    warm_up_s: float
    measure_s: float


Measure = Callable[[Task], Measured]


@contextmanager
def contestants(checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[dict[str, Measure]]:
    """Those that are wanted, by name; all stay started, and idle but for the one that is asked."""
    wanted = set(names)
    with ExitStack() as stack:
        ready: dict[str, Measure] = {}
        for name in TARGETS:
            if name in wanted or f"{name} streamed" in wanted:
                target = stack.enter_context(started(name, checkpoint))
                ready |= {name: _over_http(target), f"{name} streamed": _over_http(_streamed(target))}
        if "static" in wanted:
            static = stack.enter_context(static_batches(checkpoint))
            ready["static"] = lambda task: static.measure(task.series, task.measure_s)
        ready["floor"] = lambda task: floor(checkpoint, CAPACITY_CLIENTS)
        yield {name: measure for name, measure in ready.items() if name in wanted}


def _over_http(target: Target) -> Measure:
    def measure(task: Task) -> Measured:
        calls = WORKLOADS[task.workload](task.series)
        times = {"warm_up_s": task.warm_up_s, "measure_s": task.measure_s}
        if isinstance(task.load, Poisson):
            return open_loop(target, calls, task.load.rate, seed=task.series, **times)
        return closed_loop(target, calls, task.load.clients, **times)

    return measure


def _streamed(target: Target) -> Target:
    return replace(target, name=f"{target.name} streamed", post=to_ours_streamed)
