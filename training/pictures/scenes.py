"""Scenes: one or two coloured shapes on a plain background, sampled from a seed.

A scene is geometry and colour names only. `drawing` makes the picture, `language` says what is in it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (40, 80, 210),
    "yellow": (245, 215, 40),
    "purple": (148, 60, 190),
    "orange": (255, 140, 20),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "star", "diamond")

LEFT_OF = "to the left of"
ABOVE = "above"

# Two shapes are left/right (or above/below) only where one distance is at least this many times the other.
MIN_DISTANCE_RATIO = 2.0
MIN_GAP_OF_SMALLER_SIDE = 0.04
SMALLEST_OF_LONGER_SIDE = 1 / 9
LARGEST_OF_SHORTER_SIDE = 2 / 3
# Beyond this aspect even the smallest allowed shape hardly fits into the shorter side.
MAX_ASPECT = 5.0


@dataclass(frozen=True)
class Item:
    """One shape: its name, its colour and its square bounding box in pixels."""

    shape: str
    color: str
    left: float
    top: float
    side: float

    @property
    def center(self) -> tuple[float, float]:
        return self.left + self.side / 2, self.top + self.side / 2

    def mirrored(self, width: int) -> Item:
        """Return the item in a picture of `width` pixels flipped left to right: no shape changes."""
        return replace(self, left=width - self.left - self.side)


@dataclass(frozen=True)
class Scene:
    """The content of a picture of `width` x `height` pixels.

    `items` holds one or two shapes; of two, the left (or upper) one comes first.
    """

    width: int
    height: int
    background: str
    items: tuple[Item, ...]

    @property
    def relation(self) -> str | None:
        """The place of the first of two items relative to the second; None for a single item."""
        if len(self.items) == 1:
            return None
        first, second = self.items
        dx, dy = _distances(first, second, self.width, self.height)
        return LEFT_OF if dx > dy else ABOVE

    def mirrored(self) -> Scene:
        """Return the scene flipped left to right."""
        items = tuple(item.mirrored(self.width) for item in self.items)
        return replace(self, items=items[::-1] if self.relation == LEFT_OF else items)


def rng_for(space: str, index: int) -> random.Random:
    """Return a generator for picture `index` of a seed space ("train", "held-out", ...); spaces never meet."""
    return random.Random(f"blip2-serve/{space}/{index}")


def sample_scene(rng: random.Random, width: int, height: int) -> Scene:
    """Sample a scene of `width` x `height` pixels; two of three scenes have two shapes."""
    num_items = 1 if rng.random() < 1 / 3 else 2
    background, *colors = rng.sample(list(COLORS), num_items + 1)
    if num_items == 1:
        return Scene(width, height, background, (_sample_item(rng, colors[0], width, height),))
    hard = rng.random() < 0.15
    while True:
        first, second = (_sample_item(rng, color, width, height) for color in colors)
        if hard and not _is_close(first, second, width, height):
            continue
        if is_clear_pair(first, second, width, height):
            return Scene(width, height, background, _in_order(first, second, width, height))


def is_clear_pair(first: Item, second: Item, width: int, height: int) -> bool:
    """True if two items do not touch and one clearly lies beside or above the other."""
    dx, dy = _distances(first, second, width, height)
    return _apart(first, second) and max(dx, dy) >= MIN_DISTANCE_RATIO * min(dx, dy)


def _sample_item(rng: random.Random, color: str, width: int, height: int) -> Item:
    """Sample an item anywhere inside; its side is uniform, or log-uniform half of the time."""
    smallest = SMALLEST_OF_LONGER_SIDE * max(width, height)
    largest = LARGEST_OF_SHORTER_SIDE * min(width, height)
    side = rng.uniform(smallest, largest) if rng.random() < 0.5 else smallest * (largest / smallest) ** rng.random()
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return Item(rng.choice(SHAPES), color, left, top, side)


def _distances(first: Item, second: Item, width: int, height: int) -> tuple[float, float]:
    """Distances between the centres, as shares of the picture's width and height."""
    (x1, y1), (x2, y2) = first.center, second.center
    return abs(x1 - x2) / width, abs(y1 - y2) / height


def _apart(first: Item, second: Item) -> bool:
    """True if there is a gap between the bounding boxes, even a narrow one."""
    gap = MIN_GAP_OF_SMALLER_SIDE * min(first.side, second.side)
    beside = max(first.left, second.left) - min(first.left + first.side, second.left + second.side)
    above = max(first.top, second.top) - min(first.top + first.side, second.top + second.side)
    return max(beside, above) >= gap


def _is_close(first: Item, second: Item, width: int, height: int) -> bool:
    """True if a clear pair is only just clear: the cases that are hardest to tell."""
    near, far = sorted(_distances(first, second, width, height))
    return far <= 1.3 * MIN_DISTANCE_RATIO * near


def _in_order(first: Item, second: Item, width: int, height: int) -> tuple[Item, Item]:
    dx, dy = _distances(first, second, width, height)
    axis = 0 if dx > dy else 1
    return (first, second) if first.center[axis] < second.center[axis] else (second, first)
