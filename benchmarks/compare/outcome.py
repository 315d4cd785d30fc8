"""How a comparison came out: the ratio, and whether it reaches the bar."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.compare.table import Comparison, Setting
from benchmarks.measure.measured import Measured, figure

# By setting and name, a measurement for every round.
Results = Mapping[Setting, Mapping[str, Sequence[Measured]]]


@dataclass(frozen=True)
class Outcome:
    """Medians over the rounds; `ratio` is the median of the rounds' own ratios, so that slow drift cancels.

    None where a figure was not measured in any round, which meets no bar.
    """

    comparison: Comparison
    ours: float | None
    theirs: float | None
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool:
        """True when the ratio reaches the bar."""
        return self.ratio is not None and self.comparison.reaches(self.ratio, self.comparison.bar)

    @property
    def stretch_met(self) -> bool:
        """True when there is a stretch goal and the ratio reaches it."""
        return (
            self.ratio is not None
            and self.comparison.stretch is not None
            and self.comparison.reaches(self.ratio, self.comparison.stretch)
        )


def outcome(comparison: Comparison, results: Results) -> Outcome:
    """Compare ours with the other, round by round."""
    runs = results[comparison.setting]
    pairs = [
        (ours, theirs)
        for one, other in zip(runs["ours"], runs[comparison.against], strict=True)
        if (ours := figure(one, comparison.figure)) is not None
        and (theirs := figure(other, comparison.figure)) is not None
    ]
    if not pairs:
        return Outcome(comparison, None, None, ())
    ratios = tuple(ours / theirs for ours, theirs in pairs)
    return Outcome(
        comparison, statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs), ratios
    )
