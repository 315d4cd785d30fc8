"""Keys and values of one pool of blocks, and how many of them fit into memory.

A block is laid out token by token: first the prefix, then the tails of all rows, interleaved by time (step t of row r
is cell `prefix + t * num_rows + r`). No beam's tail is ever copied: every row may look at every cell of its own
block, and a mask hides those that are not its ancestors (see group.py).
"""

import logging
from dataclasses import dataclass

import torch

from blip2_serve.engine.cache.rows import CELLS_PER_ROW
from blip2_serve.options import MAX_NUM_BEAMS

logger = logging.getLogger(__name__)

MAX_ROWS = 256


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """One cell holds `num_layers` x (key, value) x `num_heads` x `head_dim` numbers of `dtype`.

    Tokens and masks are on `device`, each layer's keys and values on its entry of `layer_devices`, if there are any.
    """

    num_layers: int
    num_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    layer_devices: tuple[torch.device, ...] = ()

    def device_of(self, layer: int) -> torch.device:
        """The device of this layer's keys and values."""
        return self.layer_devices[layer] if self.layer_devices else self.device

    @property
    def width(self) -> int:
        """Numbers per cell and layer."""
        return 2 * self.num_heads * self.head_dim

    @property
    def cell_bytes(self) -> int:
        return self.num_layers * self.width * self.dtype.itemsize


def rows_that_fit(geometry: CacheGeometry, free_bytes: int) -> int:
    """The rows for which `free_bytes` hold CELLS_PER_ROW cells each, within MAX_NUM_BEAMS and MAX_ROWS."""
    return max(MAX_NUM_BEAMS, min(MAX_ROWS, free_bytes // (geometry.cell_bytes * CELLS_PER_ROW)))


class KVCache:
    """Keys and values of `slots` blocks with `cells` cells each; one tensor per layer, zero where nothing was written.

    Zeros matter: a masked cell's value is multiplied by a probability of 0, and 0 * NaN is NaN.
    """

    def __init__(self, geometry: CacheGeometry, cells: int) -> None:
        self._geometry = geometry
        self._cells = cells
        self._slots = 0
        self._layers = [self._zeros(0, layer) for layer in range(geometry.num_layers)]

    def resize(self, slots: int) -> None:
        """Make room for `slots` blocks and keep the first ones; one layer at a time, so little is held twice.

        Where memory is short, growing raises torch's error and changes nothing; shrinking keeps some memory instead.
        """
        if slots > self._slots:
            try:
                self._grow(slots)
            except Exception:
                self._cut(self._slots)
                raise
        self._cut(slots)
        self._slots = slots

    def move(self, source: int, target: int, num_cells: int) -> None:
        """Copy the first cells of one block over those of another."""
        for layer in self._layers:
            layer[target, :num_cells].copy_(layer[source, :num_cells])

    def write(self, layer: int, cells: torch.Tensor, states: torch.Tensor) -> None:
        """Store `states` (rows, width), a key and a value each, at `cells` (rows,) int64, counted over the pool."""
        self._layers[layer].view(-1, states.shape[1]).index_copy_(0, cells.to(states.device), states)

    def write_prefix(self, layer: int, start: int, stop: int, states: torch.Tensor) -> None:
        """Store `states` (stop - start, tokens, width) at the beginning of the blocks start to stop."""
        block = self._layers[layer][start:stop, : states.shape[1]]
        block.copy_(states.view(block.shape))

    def read(
        self, layer: int, start: int, stop: int, first_cell: int, last_cell: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the blocks start to stop, (stop - start, heads, last_cell - first_cell, head_dim) each.

        They are views.
        """
        block = self._layers[layer][start:stop, first_cell:last_cell]
        return block[:, :, 0].transpose(1, 2), block[:, :, 1].transpose(1, 2)

    def _grow(self, slots: int) -> None:
        for index, old in enumerate(self._layers):
            new = self._zeros(slots, index)
            new[: len(old)] = old
            self._layers[index] = new

    def _cut(self, slots: int) -> None:
        for index, layer in enumerate(self._layers):
            if len(layer) > slots:
                self._layers[index] = _first(layer, slots)

    def _zeros(self, slots: int, layer: int) -> torch.Tensor:
        geometry = self._geometry
        shape = (slots, self._cells, 2, geometry.num_heads, geometry.head_dim)
        return torch.zeros(shape, dtype=geometry.dtype, device=geometry.device_of(layer))


def _first(blocks: torch.Tensor, slots: int) -> torch.Tensor:
    """The first `slots` blocks: a copy, so that the rest can be freed, or a view where there is no memory for one."""
    try:
        return blocks[:slots].clone()
    except Exception as error:
        logger.warning("no memory to shrink a pool, which keeps what it has: %s", error)
        return blocks[:slots]
