"""The loop: leads requests from their arrival to their answer, one step at a time. The engine's thread runs it.

Nothing is locked here: other threads only append to `inbox`, and `tell` carries every event out.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

import torch

from blip2_serve.engine.decoding.stopping import Decode, rows_of
from blip2_serve.engine.messages import Event, Failed, Finished, ImageInput, Retrieved
from blip2_serve.engine.retrieval.line import RetrievalLine
from blip2_serve.engine.retrieval.sequence import AnySequence, RetrievalState, Sight
from blip2_serve.engine.runner import Runner
from blip2_serve.engine.scheduler import Scheduler
from blip2_serve.engine.sequence import SequenceState, Stage
from blip2_serve.engine.vision.batcher import VisionBatcher
from blip2_serve.engine.vision.encoders import Encoders
from blip2_serve.engine.vision.image_cache import Kept
from blip2_serve.engine.vision.look import SEND_IT_AGAIN, Look
from blip2_serve.errors import Blip2Error, DeadlineExceeded, EngineFailure, Part, UnknownImage

logger = logging.getLogger(__name__)


class Loop:
    """All sequences and the parts that hold them; see `step`.

    `inbox` takes sequences that arrive and the ids of requests that are cancelled. `decode` turns ids into text, for
    streams and stop strings. Counters are totals since the start, but `num_running` counts sequences that run now.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        vision: VisionBatcher,
        line: RetrievalLine,
        encoders: Encoders[Look, Sight],
        comparers: Encoders[RetrievalState, Retrieved],
        kept: Kept,
        decode: Decode,
        tell: Callable[[Event], None],
    ) -> None:
        self.inbox: deque[AnySequence | int] = deque()
        self.num_running = self.num_steps = self.num_row_steps = self.num_images = 0
        self._runner = runner
        self._scheduler = scheduler
        self._vision = vision
        self._line = line
        self._encoders = encoders
        self._comparers = comparers
        self._kept = kept
        self._decode = decode
        self._tell = tell
        self._sequences: dict[int, AnySequence] = {}

    @torch.inference_mode()
    def step(self) -> bool:
        """Read the inbox, drop what is overdue, look at a few images, compare a few texts, start what fits, decode.

        Returns True while anything is left to do.

        Raises:
            DeviceLost: nothing works on the device any more.
        """
        self._read_inbox()
        self._drop_overdue()
        self._look_at_images()
        self._compare_texts()
        self._start_sequences()
        self._decode_rows()
        return bool(self._sequences or self.inbox)

    @property
    def waits_for_encoders(self) -> bool:
        """True when idle until an encoder finishes."""
        num_begun = self._encoders.num_begun + self._comparers.num_begun
        return num_begun > 0 and not self.num_running and not self._scheduler.num_queued

    def _read_inbox(self) -> None:
        while self.inbox:
            message = self.inbox.popleft()
            if not isinstance(message, int):
                self._receive(message)
            elif message in self._sequences:
                self._leave([self._sequences[message]])

    def _receive(self, sequence: AnySequence) -> None:
        self._sequences[sequence.request.request_id] = sequence
        if isinstance(sequence, RetrievalState) and sequence.request.image is None:
            self._line.add(sequence)
            return
        image = sequence.image
        sight = self._kept.sight(image, with_states=isinstance(sequence, RetrievalState) and sequence.request.compares)
        if sight is not None:
            self._show([sequence], sight)
        elif isinstance(image, ImageInput) or self._vision.holds(image.key) or self._kept.has_states(image):
            sequence.stage = Stage.WAITING_FOR_IMAGE
            self._vision.add(sequence)
        else:
            self._fail(sequence, UnknownImage(SEND_IT_AGAIN, about=Part.IMAGE_ID))

    def _drop_overdue(self) -> None:
        now = time.monotonic()
        for sequence in [each for each in self._sequences.values() if each.deadline <= now]:
            self._fail(sequence, DeadlineExceeded("the request did not finish within its deadline"))

    def _look_at_images(self) -> None:
        for look, sight in self._encoders.encode(self._next_looks).items():
            waiting = self._vision.pop_waiting(look.image)
            if isinstance(sight, Exception):
                self._fail_all((sequence, sight) for sequence in waiting)
            else:
                self.num_images += 1
                self._kept.keep(look.image, sight)
                self._show(waiting, sight)

    def _next_looks(self) -> list[Look]:
        return [Look(image, self._kept.states(image)) for image in self._vision.next_images()]

    def _show(self, sequences: Iterable[AnySequence], sight: Sight) -> None:
        """Let sequences go on with what was made of their picture; those that want no more of it are answered."""
        for sequence in sequences:
            if isinstance(sequence, SequenceState):
                sequence.queue(sight.read)
                self._scheduler.add(sequence)
                continue
            sequence.sight = sight
            if sequence.num_texts:
                self._line.add(sequence)
            else:
                sequence.stage = Stage.RUNNING
                self._answer(sequence, sequence.answer())

    def _compare_texts(self) -> None:
        for sequence, answer in self._comparers.encode(self._line.next_batch).items():
            if sequence.stage is not Stage.RUNNING:
                continue  # cancelled, or overdue, while its texts were read
            if isinstance(answer, Exception):
                self._fail_all([(sequence, answer)])
            else:
                self._answer(sequence, answer)

    def _answer(self, sequence: AnySequence, answer: Finished | Retrieved) -> None:
        self._leave([sequence])
        self._tell(answer)

    def _start_sequences(self) -> None:
        starting = self._scheduler.admit()
        if not starting:
            return
        now, backend = time.monotonic(), self._runner.backend
        failures, held_back = self._runner.start(starting)
        self._scheduler.put_back(held_back)
        for sequence in starting:
            if sequence not in held_back:
                rows = rows_of(sequence, self._runner.ends.ids, self._decode, backend.vocab_size)
                sequence.run(rows, now)
                self.num_running += 1
        self._fail_all(failures.items())

    def _decode_rows(self) -> None:
        if not self.num_running:
            return
        self.num_steps += 1
        picked, failures = self._runner.step(self._scheduler.paused())
        done: dict[SequenceState, Finished] = {}
        for sequence, numbers in picked:
            self.num_row_steps += sequence.shape.num_rows
            rows = sequence.rows
            assert rows is not None
            for event in rows.advance(numbers):
                self._tell(event)
            if rows.done:
                done[sequence] = Finished(sequence.request.request_id, rows.finished(), sequence.timings())
        self._leave(done)  # first: a caller that hears its answer finds the rows free
        for answer in done.values():
            self._tell(answer)
        self._fail_all(failures.items())

    def _fail_all(self, failures: Iterable[tuple[AnySequence, Exception]]) -> None:
        for sequence, cause in failures:
            if isinstance(cause, UnknownImage):
                self._fail(sequence, UnknownImage(cause.message, about=cause.about))  # callers may change theirs
                continue
            logger.error("request %d failed: %r", sequence.request.request_id, cause)
            self._fail(sequence, EngineFailure("the model failed on this request; it may work when tried again"))

    def _fail(self, sequence: AnySequence, error: Blip2Error) -> None:
        self._leave([sequence])
        self._tell(Failed(sequence.request.request_id, error))

    def _leave(self, sequences: Iterable[AnySequence]) -> None:
        """Remove sequences from the part that holds them in their stage."""
        running: list[SequenceState] = []
        for sequence in sequences:
            del self._sequences[sequence.request.request_id]
            if sequence.stage is Stage.WAITING_FOR_IMAGE:
                self._vision.remove(sequence)
            elif isinstance(sequence, SequenceState):
                running += self._leave_rows(sequence)
            elif sequence.stage is Stage.QUEUED:
                self._line.remove(sequence)
            sequence.end()
        self.num_running -= len(running)
        self._runner.retire(running)

    def _leave_rows(self, sequence: SequenceState) -> list[SequenceState]:
        """Take a sequence from the scheduler; returns it if it owns rows."""
        if sequence.stage in (Stage.QUEUED, Stage.RUNNING):
            self._scheduler.remove(sequence)
        return [sequence] if sequence.stage is Stage.RUNNING else []
