"""What came out of a row: the ratio, and whether it reaches the bar."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measured import Measured, figure
from benchmarks.rows import Row, Setting

# By setting and name, a measurement for every round.
Results = Mapping[Setting, Mapping[str, Sequence[Measured]]]


@dataclass(frozen=True)
class Outcome:
    """Medians over the rounds; `ratio` is the median of the rounds' own ratios, so that slow drift cancels.

    None where a figure was not measured in any round, which meets no bar.
    """

    row: Row
    ours: float | None
    theirs: float | None
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool:
        """Whether the bar is."""
        return self.ratio is not None and self.row.reaches(self.ratio, self.row.bar)

    @property
    def stretch_met(self) -> bool:
        """Whether there is a stretch goal and it is met."""
        return (
            self.ratio is not None and self.row.stretch is not None and self.row.reaches(self.ratio, self.row.stretch)
        )


def outcome(row: Row, results: Results) -> Outcome:
    """Compare the rounds of one row, pair by pair."""
    runs = results[row.setting]
    pairs = [
        (ours, theirs)
        for one, other in zip(runs["ours"], runs[row.against], strict=True)
        if (ours := figure(one, row.figure)) is not None and (theirs := figure(other, row.figure)) is not None
    ]
    if not pairs:
        return Outcome(row, None, None, ())
    ratios = tuple(ours / theirs for ours, theirs in pairs)
    return Outcome(
        row, statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs), ratios
    )
