"""One measurement's figures, and how several become one."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Measured:
    """Rates per second, latencies and CPU in seconds, memory in megabytes; None is what was not measured.

    Latencies count from when a request was due. `short` are the requests of at most 10 new tokens, `later` the turns
    of a conversation that are not its first. Without a stream the first token comes with the last.
    """

    requests_per_s: float
    p50_s: float | None = None
    p99_s: float | None = None
    first_token_p50_s: float | None = None
    short_p50_s: float | None = None
    later_p50_s: float | None = None
    cpu_s_per_request: float | None = None
    peak_mb: float | None = None


FIGURES = tuple(each.name for each in fields(Measured))


def figure(measured: Measured, name: str) -> float | None:
    """One of FIGURES by name."""
    value: float | None = getattr(measured, name)
    return value


def median(runs: Sequence[Measured]) -> Measured:
    """Figure by figure, over the runs that have it."""
    values = {name: [value for run in runs if (value := figure(run, name)) is not None] for name in FIGURES}
    return Measured(**{name: statistics.median(of) for name, of in values.items() if of})


def percentile_99(latencies: Sequence[float]) -> float:
    """Between the values, as `statistics.quantiles` has it; of few values the largest."""
    return min(max(latencies), statistics.quantiles(latencies, n=100)[98]) if len(latencies) > 1 else latencies[0]
