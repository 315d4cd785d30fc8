"""The cache's ledger: how much of it each request owns, in plain numbers. No torch.

A request owns one *block*: its prefix (image tokens and prompt), stored once, and behind it a tail for each of its
rows. Blocks of one shape lie side by side in a *pool*, as its *slots*; the first `live` slots are in use, the rest
are spare. A cell is one token's keys and values in every layer, the unit in which memory is counted.
"""

from bisect import bisect_left
from dataclasses import dataclass

from blip2_serve.options import MAX_NUM_BEAMS

CELLS_PER_ROW = 128
PREFIX_CLASSES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
TAIL_CLASSES = (32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Requests of one shape decode as one dense batch; `beams` keeps requests whose rows depend on each other apart."""

    prefix: int
    num_rows: int
    tail: int
    beams: bool

    @property
    def cells(self) -> int:
        return self.prefix + self.num_rows * self.tail


def shape_for(num_prefix: int, num_rows: int, max_new_tokens: int, beams: bool) -> BlockShape:
    """The smallest shape that holds such a request; raises ValueError if there is none."""
    return BlockShape(_class_of(num_prefix, PREFIX_CLASSES), num_rows, _class_of(max_new_tokens, TAIL_CLASSES), beams)


def _class_of(length: int, classes: tuple[int, ...]) -> int:
    if not 0 < length <= classes[-1]:
        raise ValueError(f"a length of {length} is not within 1 and {classes[-1]}")
    return classes[bisect_left(classes, length)]


@dataclass(slots=True)
class Pool:
    """Slots of one shape: `live` of them are owned by requests, `slots` exist."""

    live: int = 0
    slots: int = 0


class RowBooks:
    """The ledger of rows and cells: live ones belong to requests, owned ones to pools, spare slots included.

    `admit` returns False for "not now"; `check_fits` raises ValueError for "never".

    Slots are added a few at a time. When cells run short, pools first give back spare slots. If memory turns out to
    hold less than `max_cells`, only that much is given out until nothing runs.
    """

    def __init__(self, max_rows: int, max_cells: int) -> None:
        self.max_rows = max_rows
        self.max_cells = max_cells
        self.pools: dict[BlockShape, Pool] = {}
        self.live_rows = 0
        self.live_cells = 0
        self.owned_cells = 0
        self._room = max_cells

    @property
    def free_rows(self) -> int:
        return self.max_rows - self.live_rows

    @property
    def free_cells(self) -> int:
        return self._room - self.owned_cells

    def check_fits(self, shape: BlockShape) -> None:
        """Raise ValueError if such a block could not run even alone."""
        if shape.num_rows > self.max_rows or shape.cells > self.max_cells:
            raise ValueError(
                f"needs {shape.num_rows} rows and {shape.cells} cells; there are {self.max_rows} and {self.max_cells}"
            )

    def admit(self, shape: BlockShape) -> bool:
        """Give the next request of this shape slot number `pools[shape].live`; False if it must wait."""
        if shape.num_rows > self.free_rows:
            return False
        pool = self.pools.setdefault(shape, Pool())
        if pool.live == pool.slots and not self._grow(shape, pool):
            return False
        pool.live += 1
        self.live_rows += shape.num_rows
        self.live_cells += shape.cells
        return True

    def retire(self, shape: BlockShape) -> None:
        """Free one slot; the pool's last slot must move into the hole."""
        self.pools[shape].live -= 1
        self.live_rows -= shape.num_rows
        self.live_cells -= shape.cells
        if not self.live_rows:
            self._room = self.max_cells

    def trim(self) -> bool:
        """Give back every spare slot; False if there is none."""
        owned_before = self.owned_cells
        for shape, pool in self.pools.items():
            self._resize(shape, pool, pool.live)
        return self.owned_cells < owned_before

    def correct(self, shape: BlockShape, slots: int) -> None:
        """Note that memory holds no more than `slots` slots of this pool beside the slots of the others."""
        self._resize(shape, self.pools[shape], slots)
        self._room = self.owned_cells

    def check(self) -> None:
        """Raise RuntimeError unless free + owned == all, in rows and in cells."""
        cells = sum(shape.cells * pool.slots for shape, pool in self.pools.items())
        rows = sum(shape.num_rows * pool.live for shape, pool in self.pools.items())
        overdrawn = self.free_cells < 0 or any(pool.live > pool.slots for pool in self.pools.values())
        if cells != self.owned_cells or rows != self.live_rows or overdrawn:
            raise RuntimeError(f"the books of the rows do not balance: {self.pools}")

    def _grow(self, shape: BlockShape, pool: Pool) -> bool:
        if self._resize(shape, pool, _more_slots(pool.slots)) or self._resize(shape, pool, pool.slots + 1):
            return True
        if shape.cells > self.free_cells + self._spare_cells():
            return False
        self.trim()
        return self._resize(shape, pool, pool.slots + 1)

    def _spare_cells(self) -> int:
        return sum(shape.cells * (pool.slots - pool.live) for shape, pool in self.pools.items())

    def _resize(self, shape: BlockShape, pool: Pool, slots: int) -> bool:
        extra_cells = (slots - pool.slots) * shape.cells
        if extra_cells > self.free_cells:
            return False
        pool.slots = slots
        self.owned_cells += extra_cells
        return True


def make_books(max_rows: int) -> RowBooks:
    """Books with CELLS_PER_ROW cells for each row, but enough for the largest request of so many rows."""
    largest = PREFIX_CLASSES[-1] + min(max_rows, MAX_NUM_BEAMS) * TAIL_CLASSES[-1]
    return RowBooks(max_rows, max(max_rows * CELLS_PER_ROW, largest))


def _more_slots(slots: int) -> int:
    """1, 2, 4, 8, then eight at a time: few distinct batch shapes, and little unused memory."""
    return max(1, 2 * slots) if slots < 8 else slots + 8
