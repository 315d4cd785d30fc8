"""End rows, with a reason and an answer; beams end by `beams.py`'s own rule. No torch."""

from collections.abc import Callable, Iterable, Set

from blip2_serve.engine.decoding.detokenizer import TextStream
from blip2_serve.engine.messages import FinishedRow, LikelyToken, TokenEvent
from blip2_serve.engine.sequence import Rows, SequenceState
from blip2_serve.options import FinishReason

Decode = Callable[[list[int]], str]


def rows_of(sequence: SequenceState, end_ids: Set[int], decode: Decode, vocab_size: int) -> Rows:
    """The rows of a sequence that starts to run; `decode` turns ids into text."""
    if sequence.request.continuations:
        return GivenRows(sequence)
    if sequence.shape.beams:
        return BeamRows(sequence, end_ids, vocab_size)
    return IndependentRows(sequence, end_ids, decode)


class IndependentRows:
    """Greedy and sampled rows: each ends by itself, the request when all have ended."""

    def __init__(self, sequence: SequenceState, end_ids: Set[int], decode: Decode) -> None:
        request = sequence.request
        self._sequence = sequence
        self._end_ids = end_ids
        self._finished: list[FinishedRow | None] = [None] * request.num_rows
        self.done = False
        self._likely: list[list[tuple[LikelyToken, ...]]] = [[] for _ in self._finished]
        self._texts: list[TextStream] = []
        if request.stream or request.stop:
            self._texts = [TextStream(decode, request.stop, request.answer_begins) for _ in self._finished]

    def finished(self) -> tuple[FinishedRow, ...]:
        """The rows that have ended, in the order of the rows."""
        return tuple(row for row in self._finished if row is not None)

    def advance(self, numbers: list[float]) -> list[TokenEvent]:
        """Log one step, laid out as `picking.Picked.packed`; return the events of a streaming request."""
        num_rows, request = len(self._finished), self._sequence.request
        tokens, logprobs = [int(number) for number in numbers[:num_rows]], numbers[num_rows : 2 * num_rows]
        self._sequence.record(tokens, logprobs)
        likely_at = _LikelyTokens(numbers[2 * num_rows :], num_rows, request.top_logprobs)
        events: list[TokenEvent] = []
        for row, token in enumerate(tokens):
            if self._finished[row] is None:
                likely = likely_at.row(row)
                if request.top_logprobs:
                    self._likely[row].append(likely)
                piece = self._add_token(row, token)
                if request.stream:
                    events.append(TokenEvent(request.request_id, row, token, logprobs[row], piece, likely))
        self.done = None not in self._finished
        return events

    def _add_token(self, row: int, token: int) -> str:
        """End the row where it is due; return the piece of text that may be shown now."""
        sequence, is_end = self._sequence, token in self._end_ids
        reason: FinishReason | None = "stop" if is_end else None
        if reason is None and sequence.num_steps >= sequence.options.max_new_tokens:
            reason = "length"
        piece, text = "", None
        if self._texts:
            stream = self._texts[row]
            piece = stream.push(token, is_end=is_end, is_last=reason is not None)
            reason, text = "stop" if stream.stopped else reason, stream.text
        if reason is not None:
            path = sequence.path(row, sequence.num_steps)
            self._finished[row] = finished_row(*path, reason, text=text, likely=self._likely[row])
        return piece


class GivenRows:
    """Rows of given continuations: each ends with its last token, whatever that is."""

    def __init__(self, sequence: SequenceState) -> None:
        self._sequence = sequence
        self._lengths = [len(ids) for ids in sequence.request.continuations]
        self.done = False

    def finished(self) -> tuple[FinishedRow, ...]:
        """The continuations with their log-probabilities, in the order of the request."""
        paths = (self._sequence.path(row, length) for row, length in enumerate(self._lengths))
        return tuple(finished_row(ids, logprobs, "stop") for ids, logprobs in paths)

    def advance(self, numbers: list[float]) -> list[TokenEvent]:
        """Log one step, k tokens and k log-probabilities; nothing of it streams."""
        num_rows = len(self._lengths)
        tokens, logprobs = numbers[:num_rows], numbers[num_rows : 2 * num_rows]
        self._sequence.record([int(token) for token in tokens], logprobs)
        self.done = self._sequence.num_steps >= max(self._lengths)
        return []


class BeamRows:
    """The beams of one request: they end together, when the search says so."""

    def __init__(self, sequence: SequenceState, end_ids: Set[int], vocab_size: int) -> None:
        self._sequence = sequence
        self._end_ids = end_ids
        self._vocab_size = vocab_size
        self._hypotheses: list[tuple[float, int, float]] = []  # score, code and end log-probability, best first
        self.done = False

    def advance(self, numbers: list[float]) -> list[TokenEvent]:
        """Log one step, laid out as `picking.Picked.packed`; beams tell nothing before they are done."""
        num_beams = self._sequence.shape.num_rows
        tokens, logprobs, parents = _in_parts(numbers[: 3 * num_beams], num_beams)
        self._sequence.record([int(token) for token in tokens], logprobs, [int(parent) for parent in parents])
        self.done = bool(numbers[3 * num_beams])
        if self.done:
            scores, codes, end_logprobs = _in_parts(numbers[3 * num_beams + 1 :], num_beams)
            self._hypotheses = list(zip(scores, map(int, codes), end_logprobs, strict=True))
        return []

    def finished(self) -> tuple[FinishedRow, ...]:
        """The best `num_return_sequences` hypotheses, best first."""
        best = self._hypotheses[: self._sequence.options.num_return_sequences]
        return tuple(self._finished_row(*hypothesis) for hypothesis in best)

    def _finished_row(self, score: float, code: int, end_logprob: float) -> FinishedRow:
        """A hypothesis from its code, (step * beams + parent row) * vocabulary + token."""
        place, token = divmod(code, self._vocab_size)
        step, parent = divmod(place, self._sequence.shape.num_rows)
        ids, logprobs = self._sequence.path(parent, step)
        reason: FinishReason = "stop" if token in self._end_ids else "length"
        return finished_row([*ids, token], [*logprobs, end_logprob], reason, beam_score=score)


def finished_row(
    ids: list[int],
    logprobs: list[float],
    reason: FinishReason,
    *,
    beam_score: float | None = None,
    text: str | None = None,
    likely: Iterable[tuple[LikelyToken, ...]] = (),
) -> FinishedRow:
    """A row with its `score`: the mean log-probability, end token counted."""
    score = sum(logprobs) / len(logprobs)
    return FinishedRow(tuple(ids), tuple(logprobs), score, beam_score, reason, text, tuple(likely))


class _LikelyTokens:
    """The likeliest tokens of one step: as many ids for each row, then as many log-probabilities, likeliest first.

    A row may have more than `count` of them: other requests of the batch may have asked for more.
    """

    def __init__(self, numbers: list[float], num_rows: int, count: int) -> None:
        self._numbers = numbers
        self._half = len(numbers) // 2
        self._width = self._half // num_rows
        self._count = count

    def row(self, row: int) -> tuple[LikelyToken, ...]:
        first = row * self._width
        ids = self._numbers[first : first + self._count]
        logprobs = self._numbers[self._half + first : self._half + first + self._count]
        return tuple(map(LikelyToken, map(int, ids), logprobs))


def _in_parts(numbers: list[float], length: int) -> list[list[float]]:
    return [numbers[start : start + length] for start in range(0, len(numbers), length)]
