"""The engine: one thread that owns the device, and a door through which the others talk to it.

The loop knows no lock: other threads put messages into its inbox, and are told what happens through the sink that they
gave with their request. `step` may be called without the thread, which is how the tests drive it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import torch

from blip2_serve.engine.backends import Backend
from blip2_serve.engine.decoding.stopping import BeamRows, Decode, GivenRows, IndependentRows
from blip2_serve.engine.intake import make_books, make_sequence
from blip2_serve.engine.messages import Event, Failed, Finished, ImageInput, Request, Stats, Timings
from blip2_serve.engine.runner import EncodeImages, Failures, Runner
from blip2_serve.engine.scheduler import Scheduler
from blip2_serve.engine.sequence import SequenceState
from blip2_serve.engine.vision.batcher import VisionBatcher
from blip2_serve.engine.vision.encoders import Encoded, Encoders
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.engine.watchdog import Watchdog
from blip2_serve.errors import Blip2Error, Busy, DeadlineExceeded, EngineDead, EngineFailure, Part, UnknownImage

logger = logging.getLogger(__name__)

Sink = Callable[[Event], None]
Rows = IndependentRows | GivenRows | BeamRows
IDLE_S = 1.0
STOP_TIMEOUT_S = 10.0
_SEND_IT_AGAIN = "The picture with this id is not kept any more, or was never sent here: send the picture again."


class Engine:
    """Runs requests; see `submit`, `cancel`, `start`, `stop`.

    `decode` turns ids into text, for streams and stop strings. `max_rows` bounds the rows that decode together, and
    the cache: CELLS_PER_ROW cells for each, but never less than the largest request that fits so many rows. What keeps
    running rows from their next token is bounded per step: `max_images_per_step` and `max_prefill_tokens`. Images are
    encoded in `encoder_threads` threads beside the loop, or, where that is 0, between its decode steps. The engine is
    dead when one call of the model takes longer than `call_timeout_s`; a step may make several.
    """

    def __init__(
        self,
        backend: Backend,
        encode_images: EncodeImages,
        decode: Decode,
        *,
        image_cache: ImageCache,
        max_rows: int = 64,
        max_queue: int = 256,
        max_images_per_step: int = 4,
        max_prefill_tokens: int = 512,
        encoder_threads: int = 0,
        call_timeout_s: float = 120.0,
    ) -> None:
        self._wake = threading.Event()
        self._books = make_books(max_rows)
        self._backend = backend
        self._decode_ids = decode
        self._watchdog = Watchdog(call_timeout_s, self._die)
        self._runner = Runner(backend, encode_images, self._books, self._watchdog.begin)
        self._encoders = Encoders(self._encode, encoder_threads, self._wake.set)
        self._scheduler = Scheduler(self._books, max_prefill_tokens)
        self._vision = VisionBatcher(max_images_per_step)
        self._image_cache = image_cache
        self._max_queue = max_queue

        self._sequences: dict[int, SequenceState] = {}
        self._image_tokens: dict[SequenceState, torch.Tensor] = {}
        self._running: dict[SequenceState, Rows] = {}
        self._num_steps = self._num_row_steps = self._num_images = 0

        self._lock = threading.Lock()
        self._sinks: dict[int, Sink] = {}
        self._inbox: deque[SequenceState | int] = deque()
        self._death: str | None = None
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    # ---- the door: any thread

    def submit(self, request: Request, sink: Sink) -> None:
        """Queues a request; `sink` is told TokenEvents and then one Finished or Failed.

        It is called from the engine's thread (or the watchdog's) and has to be quick.
        Raises PromptTooLong for what never fits, Busy when the queue is full, EngineDead when the loop has stopped.
        """
        sequence = make_sequence(request, self._backend, self._books)
        with self._lock:
            if self._death is not None:
                raise EngineDead(self._death)
            if len(self._sinks) - len(self._running) >= self._max_queue:
                raise Busy(f"{self._max_queue} requests are waiting: try again in a second.", retry_after_s=1.0)
            self._sinks[request.request_id] = sink
            self._inbox.append(sequence)
        self._wake.set()

    def cancel(self, request_id: int) -> None:
        """Forgets a request: its sink hears nothing more, and its rows are free within a step."""
        self._sinks.pop(request_id, None)
        self._inbox.append(request_id)
        self._wake.set()

    def start(self) -> None:
        """Starts the loop and its watchdog."""
        self._thread.start()
        self._watchdog.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ends the loop after the current step, and the encoders after theirs; whoever still waits gets EngineDead.

        What hangs is left behind after `timeout_s`: the threads are daemons and end with the process.
        """
        self._die("the server is stopping")
        self._watchdog.stop()
        until = time.monotonic() + timeout_s
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        encoders_ended = self._encoders.stop(max(0.0, until - time.monotonic()))
        if self._thread.is_alive() or not encoders_ended:
            logger.error("the engine's current step has not ended within %g s: left behind", timeout_s)

    @property
    def is_alive(self) -> bool:
        """Whether the loop runs: started, not stopped, not dead, not hung."""
        return self._thread.is_alive() and self._death is None

    def stats(self) -> Stats:
        return Stats(
            num_waiting=max(0, len(self._sinks) - len(self._running)),
            num_running=len(self._running),
            num_rows=self._books.live_rows,
            max_rows=self._books.max_rows,
            num_steps=self._num_steps,
            num_row_steps=self._num_row_steps,
            num_images_encoded=self._num_images,
            image_cache_hits=self._image_cache.hits,
            image_cache_misses=self._image_cache.misses,
            image_cache_bytes=self._image_cache.num_bytes,
        )

    # ---- the loop: the engine's thread

    @torch.inference_mode()
    def step(self) -> bool:
        """Takes in messages, encodes a few images, starts what fits, decodes one token for every row and delivers.

        Returns whether anything is left to do.
        """
        self._take_in_messages()
        self._drop_expired()
        self._encode_images()
        self._start_sequences()
        self._decode_rows()
        return bool(self._sequences or self._inbox)

    def _loop(self) -> None:
        try:
            while self._death is None:
                self._wake.clear()
                self._watchdog.begin()
                has_work = self.step()
                self._watchdog.rest()
                if not has_work:
                    self._runner.check_books()
                if not has_work or self._waits_for_images:
                    self._wake.wait(IDLE_S)
        except BaseException:
            logger.exception("the engine's loop failed")
            self._die("the engine's loop has failed")

    def _take_in_messages(self) -> None:
        while self._inbox:
            message = self._inbox.popleft()
            if isinstance(message, int):
                self._leave([self._sequences[message]] if message in self._sequences else [])
            elif message.request.request_id in self._sinks:
                self._take_in(message)

    def _take_in(self, sequence: SequenceState) -> None:
        request = sequence.request
        self._sequences[request.request_id] = sequence
        rows = self._image_cache.get(request.image.key)
        if rows is not None:
            self._has_image(sequence, rows)
        elif isinstance(request.image, ImageInput) or self._vision.holds(request.image.key):
            self._vision.add(sequence)
        else:
            self._fail(sequence, UnknownImage(_SEND_IT_AGAIN, about=Part.IMAGE_ID))

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for sequence in [each for each in self._sequences.values() if each.deadline <= now]:
            self._fail(sequence, DeadlineExceeded("the request did not finish within its deadline"))

    @property
    def _waits_for_images(self) -> bool:
        """Whether there is nothing to do before an encoder has finished, which will wake the loop."""
        return self._encoders.is_busy and not self._running and not self._scheduler.has_queue

    def _encode(self, images: list[ImageInput]) -> Encoded:
        """In whichever thread encodes; only the loop's own thread goes on with something else to be watched."""
        try:
            return self._runner.encode(images)
        finally:
            if threading.current_thread() is not self._thread:
                self._watchdog.rest()

    def _encode_images(self) -> None:
        """Takes in what is finished, and begins micro-batches where there is room."""
        for encoded in self._encoders.finished():
            self._take_in_rows(encoded)
        for _ in range(self._encoders.room):
            if images := self._vision.next_images():
                self._take_in_rows(self._encoders.begin(images))

    def _take_in_rows(self, encoded: Encoded) -> None:
        for image, rows in encoded.items():
            waiting = self._vision.take(image)
            if isinstance(rows, Exception):
                self._fail_all(dict.fromkeys(waiting, rows))
                continue
            self._num_images += 1
            self._image_cache.put(image.key, rows)
            for sequence in waiting:
                self._has_image(sequence, rows)

    def _has_image(self, sequence: SequenceState, rows: torch.Tensor) -> None:
        sequence.image_ready = time.monotonic()
        self._image_tokens[sequence] = rows
        self._scheduler.add(sequence)

    def _start_sequences(self) -> None:
        starting = self._scheduler.admit()
        if not starting:
            return
        now = time.monotonic()
        failures, held_back = self._runner.start({sequence: self._image_tokens[sequence] for sequence in starting})
        self._scheduler.put_back(held_back)
        for sequence in starting:
            if sequence not in held_back:
                del self._image_tokens[sequence]
                sequence.admitted = now
                self._running[sequence] = self._rows_of(sequence)
        self._fail_all(failures)

    def _decode_rows(self) -> None:
        if not self._running:
            return
        self._num_steps += 1
        self._num_row_steps += self._books.live_rows
        picked, failures = self._runner.step()
        done: list[SequenceState] = []
        for sequence, numbers in picked:
            rows = self._running[sequence]
            for delta in rows.take(numbers):
                self._tell(delta)
            if rows.done:
                done.append(sequence)
        self._finish(done)
        self._fail_all(failures)

    def _finish(self, done: list[SequenceState]) -> None:
        answers = [self._answer(sequence) for sequence in done]
        self._leave(done)
        for answer in answers:
            self._tell(answer)

    def _answer(self, sequence: SequenceState) -> Finished:
        timings = Timings(
            image_s=sequence.image_ready - sequence.arrived,
            queue_s=sequence.admitted - sequence.image_ready,
            decode_s=time.monotonic() - sequence.admitted,
        )
        return Finished(sequence.request.request_id, self._running[sequence].completions(), timings)

    def _fail_all(self, failures: Failures) -> None:
        for sequence, cause in failures.items():
            logger.error("request %d failed: %r", sequence.request.request_id, cause)
            self._fail(sequence, EngineFailure("the model failed on this request; it may work when tried again"))

    def _fail(self, sequence: SequenceState, error: Blip2Error) -> None:
        self._leave([sequence])
        self._tell(Failed(sequence.request.request_id, error))

    def _leave(self, sequences: Iterable[SequenceState]) -> None:
        """Takes sequences out, wherever they are: waiting for an image, for rows, or running."""
        running: list[SequenceState] = []
        for sequence in sequences:
            del self._sequences[sequence.request.request_id]
            self._image_tokens.pop(sequence, None)
            if self._running.pop(sequence, None) is not None:
                running.append(sequence)
            elif not self._scheduler.remove(sequence):
                self._vision.remove(sequence)
        self._runner.retire(running)

    # ---- helpers of both

    def _rows_of(self, sequence: SequenceState) -> Rows:
        ends = self._runner.ends.ids
        if sequence.request.continuations:
            return GivenRows(sequence)
        if sequence.shape.beams:
            return BeamRows(sequence, ends, self._backend.vocab_size)
        return IndependentRows(sequence, ends, self._decode_ids)

    def _tell(self, event: Event) -> None:
        """Calls the request's sink; the last event takes the sink out, so that nobody is answered twice."""
        is_last = isinstance(event, Finished | Failed)
        take = self._sinks.pop if is_last else self._sinks.get
        sink = take(event.request_id, None)
        if sink is None:
            return
        try:
            sink(event)
        except Exception:
            logger.exception("the sink of request %d failed", event.request_id)

    def _die(self, reason: str) -> None:
        """Answers everybody who waits; called by the loop, by the watchdog or by `stop`, the first reason counts."""
        with self._lock:
            self._death = self._death or reason
            waiting = list(self._sinks)
        for request_id in waiting:
            self._tell(Failed(request_id, EngineDead(reason)))
        self._wake.set()
