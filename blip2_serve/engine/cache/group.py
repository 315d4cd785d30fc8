"""The running sequences of one shape, and their tensors on the device.

The first `len(sequences)` slots of every tensor are in use: a group decodes as a dense slice, without gathers. A row
may look at the cells of its own block that the mask shows it: the prefix, and the tail cells of its ancestors. When
a beam continues another one it takes over that row of the mask; keys and values stay where they are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch

from blip2_serve.engine.cache.kv_cache import CacheGeometry, KVCache
from blip2_serve.engine.cache.rows import BlockShape
from blip2_serve.engine.decoding.beams import Beams
from blip2_serve.engine.decoding.logits_processors import LogitsProcessors
from blip2_serve.engine.sequence import SequenceState

LENGTH_STEP = 16
MAX_SPANS = 4


class Group:
    """Sequences that decode side by side, with `slots` slots of room.

    tokens (slots, rows) int64 are fed in the next step; mask (slots, rows, cells) bool is True where a row may look.
    first_cells and mask_shift (slots, rows) int64: a row's first tail cell, counted over the pool, and how much
    further its bit lies in the flattened mask.
    """

    def __init__(self, shape: BlockShape, geometry: CacheGeometry) -> None:
        self.shape = shape
        self.sequences: list[SequenceState] = []
        self.cache = KVCache(geometry, shape.cells)
        self.processors: dict[SequenceState, LogitsProcessors] = {}
        self.slots = 0
        device = geometry.device
        self.tokens = torch.zeros((0, shape.num_rows), dtype=torch.int64, device=device)
        self.mask = torch.zeros((0, shape.num_rows, shape.cells), dtype=torch.bool, device=device)
        self.beams = Beams.empty(0, shape.num_rows, device) if shape.beams else None
        self.first_cells = self.mask_shift = torch.zeros((0, shape.num_rows), dtype=torch.int64, device=device)

    def resize(self, slots: int) -> None:
        """Make room for exactly `slots` sequences; the live ones stay. If this raises, nothing has changed."""
        if slots == self.slots:
            return
        tokens, mask = _resized(self.tokens, slots), _resized(self.mask, slots)
        beams = None if self.beams is None else self.beams.apply(lambda tensor: _resized(tensor, slots))
        first_cells, mask_shift = self._cell_numbers(slots)
        self.cache.resize(slots)
        self.tokens, self.mask, self.beams = tokens, mask, beams
        self.first_cells, self.mask_shift = first_cells, mask_shift
        self.slots = slots

    def admit(self, sequences: Sequence[SequenceState]) -> "Span":
        """Give the next slots to `sequences`; `prepare` is due before anything is computed in them."""
        start = len(self.sequences)
        self.sequences.extend(sequences)
        return Span(self, start, len(self.sequences))

    def prepare(self, span: "Span") -> None:
        """Put the slots of a span into their initial state; may be done again."""
        sequences, device = span.sequences, self.tokens.device
        seeds = torch.tensor([sequence.prefix.seed_id for sequence in sequences], device=device)
        lengths = torch.tensor([sequence.prefix.num_cells for sequence in sequences], device=device)
        prefix = torch.arange(self.shape.prefix, device=device)
        self.tokens[span.start : span.stop] = seeds[:, None]
        self.mask[span.start : span.stop] = False
        self.mask[span.start : span.stop, :, : self.shape.prefix] = (prefix < lengths[:, None])[:, None]
        if self.beams is not None:
            self.beams.view(span.start, span.stop).reset()
        for sequence in sequences:
            if LogitsProcessors.needed(sequence):
                self.processors[sequence] = LogitsProcessors(sequence, device)

    def retire(self, gone: Collection[SequenceState]) -> None:
        """Drop sequences; the last ones move into the holes. Takes no memory, so that it cannot fail."""
        holes = [slot for slot, sequence in enumerate(self.sequences) if sequence in gone]
        num_left = len(self.sequences) - len(holes)
        sources = [slot for slot in range(num_left, len(self.sequences)) if slot not in holes]
        targets = [slot for slot in holes if slot < num_left]
        for sequence in gone:
            self.processors.pop(sequence, None)
        for source, target in zip(sources, targets, strict=True):
            self._move(source, target)
        del self.sequences[num_left:]

    def spans_without(self, paused: Collection[SequenceState]) -> list["Span"]:
        """Spans of all sequences but the paused ones.

        Each span costs calls of its own: beyond MAX_SPANS the smallest gaps between them take part all the same.
        """
        if not paused:
            return [Span(self, 0, len(self.sequences))] if self.sequences else []
        by_pause = groupby(range(len(self.sequences)), lambda slot: self.sequences[slot] in paused)
        runs = [list(run) for is_paused, run in by_pause if not is_paused]
        gaps = sorted(range(1, len(runs)), key=lambda each: runs[each - 1][-1] - runs[each][0])
        cuts = [0, *sorted(gaps[: MAX_SPANS - 1]), len(runs)]
        return [Span(self, runs[start][0], runs[stop - 1][-1] + 1) for start, stop in pairwise(cuts) if stop > start]

    def tails_seen(self, span: "Span") -> torch.Tensor:
        """(n, rows, tail cells) bool: the tail cells that each row of a span sees, as a view."""
        return self.mask[span.start : span.stop, :, self.shape.prefix :]

    def _move(self, source: int, target: int) -> None:
        sequence = self.sequences[source]
        self.sequences[target] = sequence
        self.cache.move(source, target, self.shape.prefix + sequence.num_steps * self.shape.num_rows)
        for tensor in (self.tokens, self.mask, *(self.beams.tensors() if self.beams is not None else ())):
            tensor[target].copy_(tensor[source])

    def _cell_numbers(self, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`first_cells` and `mask_shift` of so many slots, (slots, rows) int64 each."""
        shape = self.shape
        slot = torch.arange(slots, device=self.tokens.device)[:, None]
        row = torch.arange(shape.num_rows, device=self.tokens.device)
        return slot * shape.cells + shape.prefix + row, (slot * (shape.num_rows - 1) + row) * shape.cells


@dataclass(frozen=True, slots=True)
class Span:
    """The slots start to stop of a group: one call of the backend works on a few spans."""

    group: Group
    start: int
    stop: int

    @property
    def sequences(self) -> list[SequenceState]:
        return self.group.sequences[self.start : self.stop]

    def __len__(self) -> int:
        return self.stop - self.start

    def halves(self) -> tuple["Span", "Span"]:
        middle = (self.start + self.stop) // 2
        return Span(self.group, self.start, middle), Span(self.group, middle, self.stop)


class Step:
    """One decode step of a span, as tensors for the backend; opens each row's mask to its new cell.

    tokens (n, rows) int64 are fed; lengths (n,) int64 are the tokens fed before; positions (n,) int64 count from the
    prefix's first token; cells (n * rows,) int64 are where the new keys and values go; mask (n, rows, live) bool is
    True where a row may look. No cell from `live` on is visible.
    """

    def __init__(self, span: Span) -> None:
        group, shape = span.group, span.group.shape
        self.span = span
        self.shape = shape
        self.cache = group.cache
        self.num_rows = len(span) * shape.num_rows
        sequences = span.sequences
        lengths = [sequence.num_steps for sequence in sequences]
        starts = [sequence.prefix.num_cells for sequence in sequences]
        device = group.tokens.device
        self.lengths, starts_ = torch.tensor([lengths, starts]).to(device, non_blocking=True)
        self.positions = starts_ + self.lengths
        self.tokens = group.tokens[span.start : span.stop]
        cells = group.first_cells[span.start : span.stop] + self.lengths[:, None] * shape.num_rows
        visible = cells + group.mask_shift[span.start : span.stop]
        group.mask.view(-1).index_fill_(0, visible.view(-1), True)
        self.cells = cells.view(-1)
        used = shape.prefix + (max(lengths) + 1) * shape.num_rows
        self.live = min(shape.cells, -(-used // LENGTH_STEP) * LENGTH_STEP)
        self.mask = group.mask[span.start : span.stop, :, : self.live]


def _resized(tensor: torch.Tensor, slots: int) -> torch.Tensor:
    new = tensor.new_zeros((slots, *tensor.shape[1:]))
    kept = min(slots, len(tensor))
    new[:kept] = tensor[:kept]
    return new
