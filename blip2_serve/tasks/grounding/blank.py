"""Pictures of nothing: what a model writes about them is what it would write without looking.

A plain one alone will not do: a sure model sees something in it and gives every other word next to no probability. The
mean over a plain picture and two patchworks of random colours leaves room for what could be said.
"""

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_CELLS = (8, 2)  # along each side of the patchworks


def blank_pictures(side: int, image_mean: Sequence[float]) -> list[bytes]:
    """RGB pixels, side * side * 3 bytes each, the same ones always; `image_mean` are the processor's means, 0 to 1."""
    levels = np.array([round(255 * mean) for mean in image_mean], dtype=np.uint8)
    plain = np.broadcast_to(levels, (side, side, 3))
    return [each.tobytes() for each in (plain, *(_patchwork(side, cells) for cells in _CELLS))]


def _patchwork(side: int, cells: int) -> npt.NDArray[np.uint8]:
    colors = np.frombuffer(random.Random(cells).randbytes(cells * cells * 3), np.uint8).reshape(cells, cells, 3)
    places = np.arange(side) * cells // side
    return colors[places][:, places]
