"""The door of the engine: any thread may submit, cancel and ask; one thread of the engine's own runs the loop."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from blip2_serve.engine.backends import Backend
from blip2_serve.engine.cache.rows import RowBooks, make_books, shape_for
from blip2_serve.engine.decoding.stopping import Decode
from blip2_serve.engine.loop import Loop
from blip2_serve.engine.messages import Event, Failed, ReaderName, Request, RetrievalRequest, Stats, TokenEvent
from blip2_serve.engine.retrieval.compare import CompareTexts
from blip2_serve.engine.retrieval.line import RetrievalLine
from blip2_serve.engine.retrieval.sequence import AnySequence, RetrievalState
from blip2_serve.engine.runner import Runner
from blip2_serve.engine.scheduler import Scheduler
from blip2_serve.engine.sequence import SequenceState
from blip2_serve.engine.vision.batcher import VisionBatcher
from blip2_serve.engine.vision.encoders import Encoders
from blip2_serve.engine.vision.image_cache import ImageCache, Kept
from blip2_serve.engine.vision.look import Reader
from blip2_serve.engine.watchdog import Watchdog
from blip2_serve.errors import Busy, EngineDead, InvalidField, PromptTooLong
from blip2_serve.memory import give_back_free_memory

logger = logging.getLogger(__name__)

Sink = Callable[[Event], None]
IDLE_S = 1.0
# Keys and values of spare slots stay for the next burst so long.
REST_AFTER_S = 10.0
STOP_TIMEOUT_S = 10.0


class Engine:
    """Runs requests; see `submit`, `cancel`, `start`, `stop`.

    `readers` look at pictures, `compare_texts` are the retrieval heads; `keeps_states`: both share a tower. `decode`
    turns ids into text, for streams and stop strings. `max_rows` bounds the rows that decode together, and with them
    the cache (see `make_books`); `max_queue` bounds the requests that wait. `max_images_per_step`, `max_texts_per_step`
    and `max_prefill_tokens` bound the work that keeps running rows from their next token, `fair_rows` a client's rows
    of a step while others are here. Images are encoded, and texts compared, in `encoder_threads` threads each beside
    the loop, or, where that is 0, between its decode steps. The engine is dead when one call of the model takes longer
    than `call_timeout_s`; a step may make several.
    """

    def __init__(
        self,
        backend: Backend,
        readers: Mapping[ReaderName, Reader],
        decode: Decode,
        *,
        image_cache: ImageCache,
        vision_cache: ImageCache | None = None,
        compare_texts: CompareTexts | None = None,
        keeps_states: bool = False,
        max_rows: int = 64,
        max_queue: int = 256,
        max_images_per_step: int = 4,
        max_texts_per_step: int = 64,
        max_prefill_tokens: int = 512,
        fair_rows: int = 16,
        encoder_threads: int = 0,
        call_timeout_s: float = 120.0,
    ) -> None:
        self._backend = backend
        self._max_queue = max_queue
        self._kept = Kept(image_cache, vision_cache or ImageCache(0))
        self._books = make_books(max_rows)
        self._watchdog = Watchdog(call_timeout_s, self._die)
        self._runner = Runner(backend, readers, self._books, self._watchdog.begin, compare_texts, keeps_states)
        self._encoders = Encoders(self._runner.look, encoder_threads, self._end_encoding)
        self._comparers = Encoders(self._runner.compare, encoder_threads, self._end_encoding, "comparer")
        scheduler, vision = Scheduler(self._books, max_prefill_tokens, fair_rows), VisionBatcher(max_images_per_step)
        queues = scheduler, vision, RetrievalLine(max_texts_per_step)
        self._loop = Loop(self._runner, *queues, self._encoders, self._comparers, self._kept, decode, self._tell)

        self._lock = threading.Lock()
        self._sinks: dict[int, Sink] = {}
        self._wake = threading.Event()
        self._death: str | None = None
        self._is_at_rest = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def submit(self, request: Request | RetrievalRequest, sink: Sink) -> None:
        """Queue a request; `sink` is told TokenEvents, if it streams, and then one Finished, Retrieved or Failed.

        The engine's thread (or the watchdog's) calls the sink, which has to be quick.

        Raises:
            PromptTooLong, InvalidField: the request could not run even alone.
            Busy: the queue is full.
            EngineDead: the loop has stopped.
        """
        sequence: AnySequence
        if isinstance(request, Request):
            sequence = make_sequence(request, self._backend, self._books)
        else:
            sequence = RetrievalState(request)
        with self._lock:
            if self._death is not None:
                raise EngineDead(self._death)
            if self._num_waiting >= self._max_queue:
                raise Busy(f"{self._max_queue} requests are waiting: try again in a second.", retry_after_s=1.0)
            self._sinks[request.request_id] = sink
            self._loop.inbox.append(sequence)
        self._wake.set()

    def cancel(self, request_id: int) -> None:
        """Forget a request: its sink hears nothing more, and its rows are free within a step."""
        self._sinks.pop(request_id, None)
        self._loop.inbox.append(request_id)
        self._wake.set()

    def start(self) -> None:
        """Start the loop and its watchdog."""
        self._thread.start()
        self._watchdog.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the loop after its current step, and the encoders after theirs; answer waiting requests with EngineDead.

        A thread that hangs is left behind after `timeout_s`: all are daemons and end with the process.
        """
        self._die("the server is stopping")
        self._watchdog.stop()
        until = time.monotonic() + timeout_s
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        both = [each.stop(max(0.0, until - time.monotonic())) for each in (self._encoders, self._comparers)]
        if self._thread.is_alive() or not all(both):
            logger.error("the engine's current step has not ended within %g s: left behind", timeout_s)

    @property
    def is_alive(self) -> bool:
        """True while the loop runs: started, not stopped, not dead, not hung."""
        return self._thread.is_alive() and self._death is None

    def stats(self) -> Stats:
        """A snapshot of the counters, from any thread."""
        return Stats(
            num_waiting=self._num_waiting,
            num_running=self._loop.num_running,
            num_rows=self._books.live_rows,
            max_rows=self._books.max_rows,
            num_steps=self._loop.num_steps,
            num_row_steps=self._loop.num_row_steps,
            num_images_encoded=self._loop.num_images,
            image_cache_hits=self._kept.image_tokens.hits,
            image_cache_misses=self._kept.image_tokens.misses,
            image_cache_bytes=self._kept.image_tokens.num_bytes,
            vision_cache_bytes=self._kept.vision.num_bytes,
        )

    def step(self) -> bool:
        """Run one step of an engine that is not started, on the calling thread; see `Loop.step`."""
        return self._loop.step()

    @property
    def _num_waiting(self) -> int:
        # A cancelled request has lost its sink, but runs until the loop hears of it.
        return max(0, len(self._sinks) - self._loop.num_running)

    def _run(self) -> None:
        busy_until = time.monotonic()
        try:
            while self._death is None:
                self._wake.clear()
                self._watchdog.begin()
                has_work = self._loop.step()
                self._watchdog.rest()
                if has_work:
                    self._is_at_rest, busy_until = False, time.monotonic()
                else:
                    self._runner.check_books()
                    self._rest(time.monotonic() - busy_until)
                if not has_work or self._loop.waits_for_encoders:
                    self._wake.wait(IDLE_S)
        except BaseException:
            logger.exception("the engine's loop failed")
            self._die("the engine's loop has failed")

    def _rest(self, idle_s: float) -> None:
        """Give back the memory of keys and values once nothing has run for a while."""
        if idle_s >= REST_AFTER_S and not self._is_at_rest:
            self._is_at_rest = True
            self._runner.give_back_slots()
            give_back_free_memory()

    def _end_encoding(self) -> None:
        """Rest the encoder's thread, on which this runs, and wake the loop."""
        self._watchdog.rest()
        self._wake.set()

    def _tell(self, event: Event) -> None:
        """Call the request's sink; the last event removes the sink, so that every request is answered once."""
        is_last = not isinstance(event, TokenEvent)
        find = self._sinks.pop if is_last else self._sinks.get
        sink = find(event.request_id, None)
        if sink is None:
            return
        try:
            sink(event)
        except Exception:
            logger.exception("the sink of request %d failed", event.request_id)

    def _die(self, reason: str) -> None:
        """Answer every waiting request; the loop, the watchdog and `stop` call this, and the first reason counts."""
        with self._lock:
            self._death = self._death or reason
            waiting = list(self._sinks)
        for request_id in waiting:
            self._tell(Failed(request_id, EngineDead(reason)))
        self._wake.set()


def make_sequence(request: Request, backend: Backend, books: RowBooks) -> SequenceState:
    """The sequence of a request that arrives now.

    Raises:
        PromptTooLong, InvalidField: the request could not run even alone.
    """
    if request.num_rows > books.max_rows:
        samples = "continuations" if request.continuations else "num_return_sequences"
        field = "num_beams" if request.uses_beams else samples
        raise InvalidField(f"{field} is at most {books.max_rows} here", about=field)
    prefix = backend.prefix(request.prompt_ids)
    max_new_tokens = request.options.max_new_tokens
    try:
        shape = shape_for(prefix.num_cells, request.num_rows, max_new_tokens, request.uses_beams)
        books.check_fits(shape)
        if prefix.num_cells + max_new_tokens > backend.max_length:
            raise ValueError(f"the context is {backend.max_length} tokens")
    except ValueError as error:
        raise PromptTooLong(f"the prompt and {max_new_tokens} new tokens do not fit: {error}") from error
    return SequenceState(request, prefix, shape, arrived=time.monotonic())
