"""A request on its way through the engine: its one stage, and everything its rows have said so far. No torch."""

import math
import random
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from blip2_serve.engine.cache.rows import BlockShape
from blip2_serve.engine.messages import FinishedRow, ImageInput, KnownImage, Request, Timings, TokenEvent


class Stage(Enum):
    """A sequence goes down this list, one stage at a time, and may end from any of them.

    WAITING_FOR_IMAGE: the vision batcher holds it. QUEUED: it has image tokens and the scheduler holds it. RUNNING: it
    owns a block of the cache.
    """

    ARRIVED = auto()
    WAITING_FOR_IMAGE = auto()
    QUEUED = auto()
    RUNNING = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Prefix:
    """The part of a request that is computed once for all of its rows; `num_cells` are its cells of the cache.

    `seed_id` is the token that the first decode step feeds to every row (OPT: the prompt's last token; T5: the
    decoder's start). `seen_ids` are those that transformers' logits processors see before anything is generated.
    """

    num_cells: int
    seed_id: int
    seen_ids: tuple[int, ...]


class Rows(Protocol):
    """The rows of a running request (decoding/stopping.py): they log its steps, and are done when all have ended."""

    done: bool

    def advance(self, numbers: list[float]) -> list[TokenEvent]:
        """Log one step, laid out as `picking.Picked.packed`; return the events of a streaming request."""
        ...

    def finished(self) -> tuple[FinishedRow, ...]:
        """The answer, once `done`."""
        ...


class SequenceState:
    """One request on its way: its stage, the shape of its block, and the log of its steps.

    `image_tokens`, a tensor (query tokens, width) in the compute dtype, are kept while it is QUEUED, `rows` while it
    is RUNNING. `arrived` is a `time.monotonic()` instant.
    """

    def __init__(self, request: Request, prefix: Prefix, shape: BlockShape, arrived: float) -> None:
        self.request = request
        self.options = request.options
        self.deadline = math.inf if request.deadline is None else request.deadline
        self.prefix = prefix
        self.shape = shape
        self.stage = Stage.ARRIVED
        self.image_tokens: Any = None
        self.rows: Rows | None = None
        self.num_steps = 0
        self._arrived = self._image_ready = self._admitted = arrived
        self._tokens: list[list[int]] = []
        self._logprobs: list[list[float]] = []
        self._parents: list[list[int]] = []
        self._draws: list[list[float]] = []
        self._random: random.Random | None = None

    @property
    def image(self) -> ImageInput | KnownImage:
        """The picture that the request is about."""
        return self.request.image

    def queue(self, image_tokens: Any) -> None:
        """Enter QUEUED with the image tokens that prefill will read."""
        self.stage = Stage.QUEUED
        self.image_tokens = image_tokens
        self._image_ready = time.monotonic()

    def run(self, rows: Rows, admitted: float) -> None:
        """Enter RUNNING, prefilled; `admitted` is the `time.monotonic()` at which prefill began."""
        self.stage = Stage.RUNNING
        self.image_tokens = None
        self.rows = rows
        self._admitted = admitted

    def end(self) -> None:
        """Enter ENDED and let go of all that a stage kept."""
        self.stage = Stage.ENDED
        self.image_tokens = self.rows = None

    def timings(self) -> Timings:
        """Seconds in each stage of a sequence that is done now."""
        return Timings(
            image_s=self._image_ready - self._arrived,
            queue_s=self._admitted - self._image_ready,
            decode_s=time.monotonic() - self._admitted,
        )

    def draws(self) -> list[float]:
        """This step's uniform numbers, one per row, from the request's own generator, whatever else runs."""
        self._random = self._random or random.Random(self.options.seed)
        while len(self._draws) <= self.num_steps:
            self._draws.append([self._random.random() for _ in range(self.shape.num_rows)])
        return self._draws[self.num_steps]

    def given_tokens(self) -> list[int]:
        """The next token of every given continuation; one that has ended repeats its last."""
        return [ids[min(self.num_steps, len(ids) - 1)] for ids in self.request.continuations]

    def record(self, tokens: list[int], logprobs: list[float], parents: list[int] | None = None) -> None:
        """Log one step of all rows; `parents[r]` is the row that row r continues (itself, where None)."""
        self._tokens.append(tokens)
        self._logprobs.append(logprobs)
        if parents is not None:
            self._parents.append(parents)
        self.num_steps += 1

    def path(self, row: int, num_steps: int) -> tuple[list[int], list[float]]:
        """Tokens and log-probabilities that lead to `row` after its first `num_steps` steps."""
        ids: list[int] = []
        logprobs: list[float] = []
        for step in reversed(range(num_steps)):
            ids.append(self._tokens[step][row])
            logprobs.append(self._logprobs[step][row])
            if self._parents:
                row = self._parents[step][row]
        return ids[::-1], logprobs[::-1]
