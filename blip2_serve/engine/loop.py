"""The loop: leads requests from their arrival to their answer, one step at a time. The engine's thread runs it.

Nothing is locked here: other threads only append to `inbox`, and `tell` carries every event out.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

import torch

from blip2_serve.engine.decoding.stopping import Decode, rows_of
from blip2_serve.engine.messages import Event, Failed, Finished, ImageInput
from blip2_serve.engine.runner import Failures, Runner
from blip2_serve.engine.scheduler import Scheduler
from blip2_serve.engine.sequence import SequenceState, Stage
from blip2_serve.engine.vision.batcher import VisionBatcher
from blip2_serve.engine.vision.encoders import Encoders
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.errors import Blip2Error, DeadlineExceeded, EngineFailure, Part, UnknownImage

logger = logging.getLogger(__name__)

_SEND_IT_AGAIN = "The picture with this id is not kept any more, or was never sent here: send the picture again."


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
        encoders: Encoders,
        image_cache: ImageCache,
        decode: Decode,
        tell: Callable[[Event], None],
    ) -> None:
        self.inbox: deque[SequenceState | int] = deque()
        self.num_running = self.num_steps = self.num_row_steps = self.num_images = 0
        self._runner = runner
        self._scheduler = scheduler
        self._vision = vision
        self._encoders = encoders
        self._image_cache = image_cache
        self._decode = decode
        self._tell = tell
        self._sequences: dict[int, SequenceState] = {}

    @torch.inference_mode()
    def step(self) -> bool:
        """Read the inbox, drop what is overdue, encode a few images, start what fits, decode a token for every row.

        Returns True while anything is left to do.

        Raises:
            DeviceLost: nothing works on the device any more.
        """
        self._read_inbox()
        self._drop_overdue()
        self._encode_images()
        self._start_sequences()
        self._decode_rows()
        return bool(self._sequences or self.inbox)

    @property
    def waits_for_images(self) -> bool:
        """True when idle until an encoder finishes."""
        return self._encoders.num_begun > 0 and not self.num_running and not self._scheduler.num_queued

    def _read_inbox(self) -> None:
        while self.inbox:
            message = self.inbox.popleft()
            if isinstance(message, SequenceState):
                self._receive(message)
            elif message in self._sequences:
                self._leave([self._sequences[message]])

    def _receive(self, sequence: SequenceState) -> None:
        image = sequence.request.image
        self._sequences[sequence.request.request_id] = sequence
        image_tokens = self._image_cache.get(image.key)
        if image_tokens is not None:
            self._queue([sequence], image_tokens)
        elif isinstance(image, ImageInput) or self._vision.holds(image.key):
            sequence.stage = Stage.WAITING_FOR_IMAGE
            self._vision.add(sequence)
        else:
            self._fail(sequence, UnknownImage(_SEND_IT_AGAIN, about=Part.IMAGE_ID))

    def _drop_overdue(self) -> None:
        now = time.monotonic()
        for sequence in [each for each in self._sequences.values() if each.deadline <= now]:
            self._fail(sequence, DeadlineExceeded("the request did not finish within its deadline"))

    def _encode_images(self) -> None:
        for image, image_tokens in self._encoders.encode(self._vision.next_images).items():
            waiting = self._vision.pop_waiting(image)
            if isinstance(image_tokens, Exception):
                self._fail_all(dict.fromkeys(waiting, image_tokens))
            else:
                self.num_images += 1
                self._image_cache.put(image.key, image_tokens)
                self._queue(waiting, image_tokens)

    def _queue(self, sequences: Iterable[SequenceState], image_tokens: torch.Tensor) -> None:
        """image_tokens (query tokens, width), in the compute dtype."""
        for sequence in sequences:
            sequence.queue(image_tokens)
            self._scheduler.add(sequence)

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
        self._fail_all(failures)

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
        self._fail_all(failures)

    def _fail_all(self, failures: Failures) -> None:
        for sequence, cause in failures.items():
            logger.error("request %d failed: %r", sequence.request.request_id, cause)
            self._fail(sequence, EngineFailure("the model failed on this request; it may work when tried again"))

    def _fail(self, sequence: SequenceState, error: Blip2Error) -> None:
        self._leave([sequence])
        self._tell(Failed(sequence.request.request_id, error))

    def _leave(self, sequences: Iterable[SequenceState]) -> None:
        """Remove sequences from the part that holds them in their stage."""
        running: list[SequenceState] = []
        for sequence in sequences:
            del self._sequences[sequence.request.request_id]
            match sequence.stage:
                case Stage.WAITING_FOR_IMAGE:
                    self._vision.remove(sequence)
                case Stage.QUEUED:
                    self._scheduler.remove(sequence)
                case Stage.RUNNING:
                    self._scheduler.remove(sequence)
                    running.append(sequence)
            sequence.end()
        self.num_running -= len(running)
        self._runner.retire(running)
