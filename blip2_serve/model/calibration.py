"""How often a caption of a given log-likelihood is right, learned from captions that were judged.

Isotonic regression by pooling adjacent violators (Zadrozny and Elkan, KDD 2002): the share that is right may only rise
with the log-likelihood. No torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from blip2_serve.errors import StartupError

FILE = "confidence.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Points (log-likelihood of a caption, share that is right), both rising; straight lines between them."""

    points: tuple[tuple[float, float], ...]
    num_captions: int

    def confidence(self, log_likelihood: float) -> float:
        """Probability that a caption is right, 0 to 1."""
        if log_likelihood <= self.points[0][0]:
            return self.points[0][1]
        for (left, low), (right, high) in pairwise(self.points):
            if log_likelihood <= right:
                return low + (high - low) * (log_likelihood - left) / (right - left)
        return self.points[-1][1]

    def write(self, file: Path) -> None:
        """Write the file that `read` reads."""
        about = {"captions": self.num_captions, "points": [list(point) for point in self.points]}
        file.write_text(json.dumps(about) + "\n")


def fit(log_likelihoods: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Learn from captions of which some are right; each pool of equal shares becomes one point, in its middle.

    Raises:
        ValueError: there is no caption.
    """
    pools: list[tuple[float, float, int]] = []  # sum of log-likelihoods, number that is right, number
    for number, is_right in sorted(zip(log_likelihoods, right, strict=True)):
        pools.append((number, float(is_right), 1))
        while len(pools) > 1 and _are_one(pools[-2], pools[-1]):
            (last_sum, last_right, last_count), (total, num_right, count) = pools.pop(), pools.pop()
            pools.append((total + last_sum, num_right + last_right, count + last_count))
    if not pools:
        raise ValueError("no captions to learn from")
    points = tuple((total / count, num_right / count) for total, num_right, count in pools)
    return Calibration(points, len(right))


def _are_one(left: tuple[float, float, int], right: tuple[float, float, int]) -> bool:
    """True if the share that is right does not rise from one pool to the next, or they have the same likelihood."""
    return left[1] * right[2] >= right[1] * left[2] or left[0] / left[2] >= right[0] / right[2]


def expected_error(confidences: Sequence[float], right: Sequence[bool], num_bins: int = 10) -> float:
    """Expected calibration error: the mean distance of confidence and share that is right, over bins of equal width.

    (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.)
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(num_bins)]
    for pair in zip(confidences, right, strict=True):
        bins[min(int(pair[0] * num_bins), num_bins - 1)].append(pair)
    distances = (abs(sum(confidence - is_right for confidence, is_right in each)) for each in bins)
    return sum(distances) / len(right)


def read(file: Path) -> Calibration:
    """Read what `Calibration.write` wrote.

    Raises:
        StartupError: the file is missing or damaged.
    """
    try:
        content = json.loads(file.read_text())
        points = tuple((float(number), float(share)) for number, share in content["points"])
        is_rising = all(left[0] < right[0] and left[1] <= right[1] for left, right in pairwise(points))
        if not points or not is_rising or not all(0 <= share <= 1 for _, share in points):
            raise ValueError("its points do not rise from 0 to 1")
        return Calibration(points, int(content["captions"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(
            f"{file.name} is no calibration ({error}): make one with `blip2-serve calibrate`, or remove it."
        ) from None
