"""Runs the model on groups of sequences, and keeps a fault with the request that causes it.

A batch that fails, for want of memory or in the model, is tried again in halves: only a request that fails alone is
given up. A step changes nothing before all of it has succeeded, so running a part again is safe.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch

from blip2_serve.engine.backends import Backend
from blip2_serve.engine.cache.group import Group, Span, Step
from blip2_serve.engine.cache.rows import BlockShape, RowBooks
from blip2_serve.engine.decoding.beams import EndTokens
from blip2_serve.engine.decoding.picking import Picked, pick
from blip2_serve.engine.messages import ReaderName, Retrieved
from blip2_serve.engine.retrieval.compare import CompareTexts, compare
from blip2_serve.engine.retrieval.sequence import RetrievalState, Sight
from blip2_serve.engine.sequence import SequenceState
from blip2_serve.engine.vision.look import Look, Reader, look

logger = logging.getLogger(__name__)

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")
MAX_FAILURES_IN_A_ROW = 8

Failures = dict[SequenceState, Exception]


class DeviceLost(RuntimeError):
    """Many requests in a row have failed: it is the device, not the requests."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """The picks of one call of the backend; numbers (all of `packed`,) float64 leave the device in one copy."""

    picked: list[Picked]
    numbers: torch.Tensor

    def to_host(self) -> Iterator[tuple[SequenceState, list[float]]]:
        """Each sequence with its row of `Picked.packed`."""
        numbers, start = self.numbers.tolist(), 0
        for picks in self.picked:
            width = picks.packed.shape[1]
            for sequence in picks.span.sequences:
                yield sequence, numbers[start : start + width]
                start += width


@dataclass
class Runner:
    """Owns all that is on the device, and is the only code that calls the model; `on_call` runs before each call.

    `compare_texts` are the retrieval heads, if there are any; `keeps_states`: what the tower saw may be wanted again.
    """

    backend: Backend
    readers: Mapping[ReaderName, Reader]
    books: RowBooks
    on_call: Callable[[], None]
    compare_texts: CompareTexts | None = None
    keeps_states: bool = False
    groups: dict[BlockShape, Group] = field(default_factory=dict)
    _failures_in_a_row: int = 0

    def __post_init__(self) -> None:
        backend = self.backend
        self.ends = EndTokens.of(backend.end_ids, backend.vocab_size, backend.geometry.device)

    @torch.inference_mode()
    def look(self, looks: list[Look]) -> dict[Look, Sight | Exception]:
        """Return for each picture what its reader makes of it, or the error that it causes.

        Raises:
            DeviceLost: many requests in a row have failed.
        """
        return self._in_parts(looks, partial(look, self.readers, keeps_states=self.keeps_states))

    @torch.inference_mode()
    def compare(self, sequences: list[RetrievalState]) -> dict[RetrievalState, Retrieved | Exception]:
        """The answers of retrieval requests that have texts, or the errors that they cause.

        Raises:
            DeviceLost: many requests in a row have failed.
        """
        assert self.compare_texts is not None
        return self._in_parts(sequences, partial(compare, self.compare_texts))

    def _in_parts(
        self, jobs: list[JobT], run: Callable[[list[JobT]], Mapping[JobT, DoneT]]
    ) -> dict[JobT, DoneT | Exception]:
        """Run all jobs at once, or else in halves, until what fails fails alone."""
        done: dict[JobT, DoneT | Exception] = {}

        def attempt() -> None:
            self.on_call()
            done.update(run(jobs))

        error = _attempt(attempt)
        if error is None:
            self._failures_in_a_row = 0
            return done
        if len(jobs) == 1:
            self._count_failure(error)
            return {jobs[0]: error}
        middle = len(jobs) // 2
        return self._in_parts(jobs[:middle], run) | self._in_parts(jobs[middle:], run)

    def start(self, sequences: Iterable[SequenceState]) -> tuple[Failures, list[SequenceState]]:
        """Prefill sequences that have their image tokens and a booked slot.

        Returns the failures, and the sequences held back for want of memory for their slots.

        Raises:
            DeviceLost: many requests in a row have failed.
        """
        error = self._fit_groups()
        by_shape, held_back = self._share_slots(sequences)
        failures = self._give_up_alone(held_back[0], error) if held_back and error is not None else {}
        spans = [self.groups[shape].admit(members) for shape, members in by_shape.items()]
        device = self.backend.geometry.device

        def prefill(spans: list[Span]) -> None:
            for span in spans:
                self.on_call()
                span.group.prepare(span)
                self.backend.prefill(span, [sequence.image_tokens.to(device) for sequence in span.sequences])

        return failures | self._in_halves(spans, prefill), held_back

    def step(self, paused: Collection[SequenceState] = ()) -> tuple[list[tuple[SequenceState, list[float]]], Failures]:
        """Decode one token for every row of the sequences that are not paused.

        Returns each sequence with its row of `Picked.packed`, and the failures.

        Raises:
            DeviceLost: many requests in a row have failed.
        """
        spans = [span for group in self.groups.values() for span in group.spans_without(paused)]
        batches: list[_Batch] = []

        def decode(spans: list[Span]) -> None:
            self.on_call()
            steps = [Step(span) for span in spans]
            logits = self.backend.decode(steps).split_with_sizes([step.num_rows for step in steps])
            picked = [pick(span, part, self.ends) for span, part in zip(spans, logits, strict=True)]
            batches.append(_Batch(picked, torch.cat([picks.packed.view(-1) for picks in picked])))

        failures = self._in_halves(spans, decode)
        for batch in batches:
            for picks in batch.picked:
                picks.commit()
        return [numbers for batch in batches for numbers in batch.to_host()], failures

    def retire(self, gone: Iterable[SequenceState]) -> None:
        """Free the slots of sequences that were started."""
        by_shape: dict[BlockShape, set[SequenceState]] = defaultdict(set)
        for sequence in gone:
            by_shape[sequence.shape].add(sequence)
            self.books.retire(sequence.shape)
        for shape, members in by_shape.items():
            self.groups[shape].retire(members)

    def give_back_slots(self) -> None:
        """Free the memory of all slots that no sequence uses."""
        self.books.trim()
        self._fit_groups()

    def check_books(self) -> None:
        """Raise RuntimeError unless ledger and groups agree and free + owned == all."""
        self.books.check()
        for shape, pool in self.books.pools.items():
            group = self.groups.get(shape)
            live = len(group.sequences) if group else 0
            if live != pool.live:
                raise RuntimeError(f"{pool.live} slots of {shape} are booked, {live} are in use")

    def _fit_groups(self) -> Exception | None:
        """Make every group as large as its pool in the books; groups that shrink go first, to make room.

        Where memory holds only a part of that, correct the books; returns the last reason.
        """
        pools, last_error = self.books.pools, None
        for shape in pools.keys() - self.groups.keys():
            self.groups[shape] = Group(shape, self.backend.geometry)
        for shape, group in sorted(self.groups.items(), key=lambda item: pools[item[0]].slots - item[1].slots):
            if group.slots == pools[shape].slots:
                continue
            error = _resize(group, pools[shape].slots)
            if group.slots < pools[shape].slots:
                self.books.correct(shape, group.slots)
                last_error = error
        return last_error

    def _share_slots(
        self, sequences: Iterable[SequenceState]
    ) -> tuple[dict[BlockShape, list[SequenceState]], list[SequenceState]]:
        """Sequences that get a slot, by shape, and those whose booking is undone because their group could not grow."""
        by_shape: dict[BlockShape, list[SequenceState]] = defaultdict(list)
        held_back: list[SequenceState] = []
        for sequence in sequences:
            group, num_starting = self.groups[sequence.shape], len(by_shape.get(sequence.shape, ()))
            has_slot = len(group.sequences) + num_starting < group.slots
            (by_shape[sequence.shape] if has_slot else held_back).append(sequence)
        for sequence in held_back:
            self.books.retire(sequence.shape)
        return by_shape, held_back

    def _give_up_alone(self, first: SequenceState, error: Exception) -> Failures:
        """Fail the first sequence that is held back if waiting is no use: nothing runs, and no slot is spare."""
        if self.books.live_rows or self.books.trim():
            return {}
        self._count_failure(error)
        return {first: error}

    def _in_halves(self, spans: list[Span], run: Callable[[list[Span]], None]) -> Failures:
        """Run all spans at once, or else in halves; returns the sequences that failed alone."""
        if not spans:
            return {}
        error = _attempt(lambda: run(spans))
        if error is None:
            self._failures_in_a_row = 0
            return {}
        parts = _halves(spans)
        if parts is None:
            self._count_failure(error)
            return {spans[0].sequences[0]: error}
        return self._in_halves(parts[0], run) | self._in_halves(parts[1], run)

    def _count_failure(self, error: Exception) -> None:
        """Blame one failure on its request, many in a row on the device; being out of memory may pass."""
        if is_out_of_memory(error):
            return
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise DeviceLost(f"{self._failures_in_a_row} requests in a row failed") from error


def _attempt(run: Callable[[], None]) -> Exception | None:
    """Run, and return the exception without its traceback, which would hold the memory that the next attempt needs."""
    try:
        run()
    except Exception as error:
        logger.warning("a batch failed", exc_info=error)
        return error.with_traceback(None)
    return None


def _resize(group: Group, slots: int) -> Exception | None:
    """Make the group as large as `slots` or as memory allows, halving the growth; returns why it is smaller."""
    error = _attempt(partial(group.resize, slots))
    is_short = error is not None
    while is_short and slots - group.slots > 1:
        slots = (group.slots + slots) // 2
        is_short = _attempt(partial(group.resize, slots)) is not None
    return error


def is_out_of_memory(error: Exception) -> bool:
    """True for want of memory; PyTorch's allocators for CPUs raise plain RuntimeErrors."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def _halves(spans: list[Span]) -> tuple[list[Span], list[Span]] | None:
    if len(spans) > 1:
        middle = len(spans) // 2
        return spans[:middle], spans[middle:]
    if len(spans[0]) < 2:
        return None
    first, second = spans[0].halves()
    return [first], [second]
