"""The table of comparisons: the figures, against whom, and the ratios that they have to reach."""

from dataclasses import dataclass

from benchmarks.measure.measured import FIGURES


@dataclass(frozen=True)
class Closed:
    """So many clients, each with one request at a time."""

    clients: int

    def __str__(self) -> str:
        return "1 client" if self.clients == 1 else f"{self.clients} clients"


@dataclass(frozen=True)
class Open:
    """Arrivals at random, at a share of what server `of` did with CAPACITY_CLIENTS clients."""

    share: float
    of: str = "b"

    def __str__(self) -> str:
        whose = "our" if self.of == "ours" else f"({self.of})'s"
        return f"open loop at {self.share:.0%} of {whose} capacity"


@dataclass(frozen=True)
class Setting:
    """The load under which each server is measured in turn."""

    checkpoint: str
    workload: str
    load: Closed | Open

    def __str__(self) -> str:
        return f"{self.checkpoint} {self.workload}, {self.load}"


@dataclass(frozen=True)
class Comparison:
    """A line of the table: a figure of ours over the same of `against`, and the ratio it has to reach."""

    setting: Setting
    figure: str
    against: str
    bar: float
    stretch: float | None = None

    def __post_init__(self) -> None:
        assert self.figure in FIGURES

    @property
    def higher_is_better(self) -> bool:
        """Of rates; of latencies the lower is better."""
        return self.figure == "requests_per_s"

    def reaches(self, ratio: float, bar: float) -> bool:
        """True when a ratio is as good as a bar."""
        return ratio >= bar if self.higher_is_better else ratio <= bar

    def __str__(self) -> str:
        return f"{self.setting}, {FIGURE_NAMES[self.figure]} against ({self.against})"


CAPACITY_CLIENTS = 32
FIGURE_NAMES = {
    "requests_per_s": "requests/s",
    "p50_s": "p50",
    "short_p50_s": "p50 of short requests",
    "later_p50_s": "p50 of later turns",
}


def _of(
    name: str, load: Closed | Open, figure: str, against: str, bar: float, stretch: float | None = None
) -> Comparison:
    checkpoint, workload = name.split()
    return Comparison(Setting(checkpoint, workload, load), figure, against, bar, stretch)


COMPARISONS = (
    _of("demo W1", Closed(32), "requests_per_s", "a", 6.0, 8.0),
    _of("demo W1", Closed(32), "requests_per_s", "b", 1.7, 2.5),
    _of("demo W1", Closed(1), "p50_s", "a", 0.7),
    _of("demo W2", Closed(32), "requests_per_s", "b", 2.0),
    _of("demo W2", Open(0.5), "short_p50_s", "b", 0.5),
    _of("demo W4", Closed(32), "requests_per_s", "a", 4.0),
    _of("base W1", Closed(32), "requests_per_s", "a", 2.1, 2.6),
    _of("base W1", Closed(32), "requests_per_s", "b", 1.15, 1.4),
    _of("base W1", Closed(1), "p50_s", "a", 1.0),
    _of("base W2", Closed(32), "requests_per_s", "b", 1.5),
    _of("base W2", Open(0.5), "short_p50_s", "b", 0.5),
    _of("base W3", Closed(1), "later_p50_s", "a", 0.6),
    _of("base W4", Closed(32), "requests_per_s", "a", 2.2),
    _of("base W1", Closed(32), "requests_per_s", "floor", 0.8, 0.9),
)
