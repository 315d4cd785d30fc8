"""When a row ends and why, and what is then answered; beams end by `beams.py`'s own rule. No torch."""

from collections.abc import Callable, Iterable, Set

from blip2_serve.engine.decoding.detokenizer import TextStream
from blip2_serve.engine.messages import FinishedRow, LikelyToken, TokenEvent
from blip2_serve.engine.sequence import SequenceState
from blip2_serve.options import DecodingOptions, FinishReason

Decode = Callable[[list[int]], str]


def finish_reason(
    token_id: int, num_new_tokens: int, options: DecodingOptions, end_ids: Set[int]
) -> FinishReason | None:
    """Why a row ends with `token_id` as its `num_new_tokens`-th new token; None while it goes on."""
    if token_id in end_ids:
        return "stop"
    return "length" if num_new_tokens >= options.max_new_tokens else None


def completion(
    ids: list[int],
    logprobs: list[float],
    reason: FinishReason,
    *,
    beam_score: float | None = None,
    text: str | None = None,
    likely: Iterable[tuple[LikelyToken, ...]] = (),
) -> FinishedRow:
    """A completion with its `score`: the mean log-probability, end token counted."""
    score = sum(logprobs) / len(logprobs)
    return FinishedRow(tuple(ids), tuple(logprobs), score, beam_score, reason, text, tuple(likely))


class IndependentRows:
    """Greedy and sampled rows: each ends by itself, the request when all have ended."""

    def __init__(self, sequence: SequenceState, end_ids: Set[int], decode: Decode) -> None:
        request = sequence.request
        self._sequence = sequence
        self._end_ids = end_ids
        self._completions: list[FinishedRow | None] = [None] * request.num_rows
        self._likely: list[list[tuple[LikelyToken, ...]]] = [[] for _ in self._completions]
        self._texts: list[TextStream] = []
        if request.stream or request.stop:
            self._texts = [TextStream(decode, request.stop) for _ in self._completions]

    @property
    def done(self) -> bool:
        return None not in self._completions

    def completions(self) -> tuple[FinishedRow, ...]:
        """The rows that have ended, in the order of the rows."""
        return tuple(row for row in self._completions if row is not None)

    def take(self, numbers: list[float]) -> list[TokenEvent]:
        """Logs one step, laid out as `picking.Picked.packed` says; returns what a streaming caller is told about it."""
        num_rows, request = len(self._completions), self._sequence.request
        tokens, logprobs = [int(number) for number in numbers[:num_rows]], numbers[num_rows : 2 * num_rows]
        self._sequence.record(tokens, logprobs)
        likely = _likely(numbers[2 * num_rows :], num_rows, request.top_logprobs)
        deltas: list[TokenEvent] = []
        for row, token in enumerate(tokens):
            if self._completions[row] is None:
                self._likely[row].extend(likely[row : row + 1])
                text = self._take_token(row, token)
                if request.stream:
                    told = likely[row] if likely else ()
                    deltas.append(TokenEvent(request.request_id, row, token, logprobs[row], text, told))
        return deltas

    def _take_token(self, row: int, token: int) -> str:
        """Ends the row where it is due; returns the piece of text that the token adds."""
        sequence = self._sequence
        reason = finish_reason(token, sequence.num_steps, sequence.options, self._end_ids)
        piece, text = "", None
        if self._texts:
            stream = self._texts[row]
            piece = stream.push(token, is_end=token in self._end_ids, is_last=reason is not None)
            reason, text = "stop" if stream.stopped else reason, stream.text
        if reason is not None:
            ids, logprobs = sequence.path(row, sequence.num_steps)
            self._completions[row] = completion(ids, logprobs, reason, text=text, likely=self._likely[row])
        return piece


def _likely(numbers: list[float], num_rows: int, count: int) -> list[tuple[LikelyToken, ...]]:
    """Each row's `count` likeliest tokens; others of the batch may have asked for more, or for none."""
    if not count:
        return []
    ids, logprobs = (_in_parts(half, len(half) // num_rows) for half in _in_parts(numbers, len(numbers) // 2))
    return [
        tuple(LikelyToken(int(token_id), logprob) for token_id, logprob in zip(row_ids, row_logprobs, strict=True))[
            :count
        ]
        for row_ids, row_logprobs in zip(ids, logprobs, strict=True)
    ]


class GivenRows:
    """Rows of given continuations: each ends with its last token, whatever that is."""

    def __init__(self, sequence: SequenceState) -> None:
        self._sequence = sequence
        self._lengths = [len(ids) for ids in sequence.request.continuations]

    @property
    def done(self) -> bool:
        return self._sequence.num_steps >= max(self._lengths)

    def completions(self) -> tuple[FinishedRow, ...]:
        """The continuations with their log-probabilities, in the order of the request."""
        paths = (self._sequence.path(row, length) for row, length in enumerate(self._lengths))
        return tuple(completion(ids, logprobs, "stop") for ids, logprobs in paths)

    def take(self, numbers: list[float]) -> list[TokenEvent]:
        """Logs one step, k tokens and k log-probabilities; nothing of it streams."""
        num_rows = len(self._lengths)
        tokens, logprobs = numbers[:num_rows], numbers[num_rows : 2 * num_rows]
        self._sequence.record([int(token) for token in tokens], logprobs)
        return []


class BeamRows:
    """The beams of one request: they end together, when the search says so."""

    def __init__(self, sequence: SequenceState, end_ids: Set[int], vocab_size: int) -> None:
        self._sequence = sequence
        self._end_ids = end_ids
        self._vocab_size = vocab_size
        self._finished: list[list[float]] = []
        self.done = False

    def take(self, numbers: list[float]) -> list[TokenEvent]:
        """Logs one step, laid out as `picking.Picked.packed` says; beams tell nothing before they are done."""
        num_beams = self._sequence.shape.num_rows
        tokens, logprobs, parents = _in_parts(numbers[: 3 * num_beams], num_beams)
        self._sequence.record([int(token) for token in tokens], logprobs, [int(parent) for parent in parents])
        self.done = bool(numbers[3 * num_beams])
        if self.done:
            scores, codes, end_logprobs = _in_parts(numbers[3 * num_beams + 1 :], num_beams)
            self._finished = [list(hypothesis) for hypothesis in zip(scores, codes, end_logprobs, strict=True)]
        return []

    def completions(self) -> tuple[FinishedRow, ...]:
        """The best `num_return_sequences` hypotheses, best first."""
        best = self._finished[: self._sequence.options.num_return_sequences]
        return tuple(self._hypothesis(score, int(code), end_logprob) for score, code, end_logprob in best)

    def _hypothesis(self, score: float, code: int, end_logprob: float) -> FinishedRow:
        """A hypothesis from its code, (step * beams + parent row) * vocabulary + token."""
        place, token = divmod(code, self._vocab_size)
        step, parent = divmod(place, self._sequence.shape.num_rows)
        ids, logprobs = self._sequence.path(parent, step)
        reason: FinishReason = "stop" if token in self._end_ids else "length"
        return completion([*ids, token], [*logprobs, end_logprob], reason, beam_score=score)


def _in_parts(numbers: list[float], length: int) -> list[list[float]]:
    return [numbers[start : start + length] for start in range(0, len(numbers), length)]
