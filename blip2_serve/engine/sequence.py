"""A running request: where it stands, and what its rows have said so far. No torch."""

import math
import random

from blip2_serve.engine.cache.rows import BlockShape
from blip2_serve.engine.messages import Request


class SequenceState:
    """One request on its way: `num_prefix` cells of prefix, `shape` of its block, and a step log of its rows.

    `seed_id` is the token that the first decode step feeds to every row (OPT: the prompt's last token; T5: the
    decoder's start). `seen_ids` are what transformers' logits processors see before anything is generated.
    """

    def __init__(
        self,
        request: Request,
        *,
        shape: BlockShape,
        num_prefix: int,
        seed_id: int,
        seen_ids: tuple[int, ...],
        arrived: float,
    ) -> None:
        self.request = request
        self.options = request.options
        self.deadline = math.inf if request.deadline is None else request.deadline
        self.shape = shape
        self.num_prefix = num_prefix
        self.seed_id = seed_id
        self.seen_ids = seen_ids
        self.arrived = arrived
        self.image_ready = arrived
        self.admitted = arrived
        self.num_steps = 0
        self._tokens: list[list[int]] = []
        self._logprobs: list[list[float]] = []
        self._parents: list[list[int]] = []
        self._draws: list[list[float]] = []
        self._random: random.Random | None = None

    def draws(self) -> list[float]:
        """This step's uniform numbers, one per row, from the request's own generator, whatever else runs."""
        self._random = self._random or random.Random(self.options.seed)
        while len(self._draws) <= self.num_steps:
            self._draws.append([self._random.random() for _ in range(self.shape.num_rows)])
        return self._draws[self.num_steps]

    def given_tokens(self) -> list[int]:
        """What the rows of given continuations say next; a row that has ended repeats its last token."""
        return [ids[min(self.num_steps, len(ids) - 1)] for ids in self.request.continuations]

    def record(self, tokens: list[int], logprobs: list[float], parents: list[int] | None = None) -> None:
        """Logs one step of all rows; `parents[r]` is the row that row r continues (itself, where None)."""
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
