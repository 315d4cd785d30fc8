"""Logits to tokens: for every row, the row that it continues and the token that it says next.

Greedy and sampled rows continue themselves, as do rows whose text is given and only scored; beams may continue each
other (beams.py). Everything of one step is decided in a few tensor operations, and leaves the device in one copy
(`Picked.packed`).
"""

from dataclasses import dataclass
from typing import Self

import torch

from blip2_serve.engine.cache.group import Span
from blip2_serve.engine.decoding.beams import BeamRules, Beams, EndTokens, beam_step
from blip2_serve.engine.decoding.logits_processors import hold_back_ends
from blip2_serve.engine.sequence import SequenceState


@dataclass(frozen=True, slots=True)
class Picked:
    """The next tokens (n, k) int64 of a span's rows, and the state of the span after the step.

    said (k, length) int64 holds the ids of each sequence that has logits processors. For beams there is their state,
    and seen (n, k, tail cells) bool, the tail cells that each row sees.

    packed (n, width) float64 goes to the host; ids and float32 numbers are exact in it. Its columns are k tokens and
    k log-probabilities. For beams follow k parents, done, then the finished hypotheses' k scores, codes and end
    log-probabilities; for other rows, where a sequence of the span asks for likely tokens, k times their ids and k
    times their log-probabilities, best first, as many as the most that one of them asks for.
    """

    span: Span
    packed: torch.Tensor
    tokens: torch.Tensor
    said: dict[SequenceState, torch.Tensor]
    beams: Beams | None = None
    seen: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        span: Span,
        tokens: torch.Tensor,
        columns: list[torch.Tensor],
        parents: torch.Tensor | None = None,
        beams: Beams | None = None,
        seen: torch.Tensor | None = None,
    ) -> Self:
        """Pack `columns`, and continue what sequences with logits processors have said; parents (n, k) int64."""
        packed = torch.cat([column.double() for column in columns], dim=1)
        processors = span.group.processors
        said = {
            sequence: processors[sequence].continued(tokens[index], None if parents is None else parents[index])
            for index, sequence in enumerate(span.sequences if processors else ())
            if sequence in processors
        }
        return cls(span, packed, tokens, said, beams, seen)

    def commit(self) -> None:
        """Make the picks the span's next input. Until now nothing has changed, so a failed step can be run again.

        Takes no memory, so that it cannot fail half way.
        """
        span, group = self.span, self.span.group
        group.tokens[span.start : span.stop].copy_(self.tokens)
        if self.seen is not None and self.beams is not None and group.beams is not None:
            group.beams.view(span.start, span.stop).update(self.beams)
            group.tails_seen(span).copy_(self.seen)
        for sequence, ids in self.said.items():
            group.processors[sequence].ids = ids


def pick(span: Span, logits: torch.Tensor, ends: EndTokens) -> Picked:
    """Pick the next tokens of all rows of `span`; logits (n * rows, vocab) float32."""
    logits = logits.view(len(span), span.group.shape.num_rows, -1)
    return _pick_beams(span, logits, ends) if span.group.shape.beams else _pick_rows(span, logits, ends)


def _pick_rows(span: Span, logits: torch.Tensor, ends: EndTokens) -> Picked:
    """logits (n, k, vocab) float32, of rows that continue themselves."""
    scores = _process(span, logits, ends)
    tokens = scores.argmax(dim=-1)
    sequences = span.sequences
    sampled = [index for index, sequence in enumerate(sequences) if sequence.options.do_sample]
    if sampled:
        tokens[sampled] = _sample(scores[sampled], [sequences[index] for index in sampled])
    given = [index for index, sequence in enumerate(sequences) if sequence.request.continuations]
    if given:
        tokens[given] = torch.tensor([sequences[index].given_tokens() for index in given]).to(tokens.device)
    logprobs = logits.log_softmax(dim=-1)
    columns = [tokens, logprobs.gather(2, tokens[:, :, None]).squeeze(2)]
    most_likely = max(sequence.request.top_logprobs for sequence in sequences)
    if most_likely:
        best = logits.topk(min(most_likely, logits.shape[2])).indices
        columns += [best.flatten(1), logprobs.gather(2, best).flatten(1)]
    return Picked.of(span, tokens, columns)


def _pick_beams(span: Span, logits: torch.Tensor, ends: EndTokens) -> Picked:
    """logits (n, k, vocab) float32, of rows that may continue each other."""
    assert span.group.beams is not None
    beams = span.group.beams.view(span.start, span.stop)
    logprobs = logits.log_softmax(dim=-1)
    rules = BeamRules.of(span.sequences, logits.device)
    step = beam_step(beams, logprobs, _process(span, logprobs, ends), ends, rules)
    after = step.beams
    columns = [step.tokens, step.logprobs, step.parents, step.done, after.scores, after.codes, after.end_logprobs]
    seen = span.group.tails_seen(span)
    seen = seen.gather(1, step.parents[:, :, None].expand(seen.shape))
    return Picked.of(span, step.tokens, columns, step.parents, after, seen)


def _process(span: Span, scores: torch.Tensor, ends: EndTokens) -> torch.Tensor:
    """Pass scores (n, k, vocab) float32 through each sequence's logits processors, if it has any."""
    processors, sequences = span.group.processors, span.sequences
    if processors:
        raw, scores = scores, scores.clone()
        for index, sequence in enumerate(sequences):
            if sequence in processors:
                scores[index] = processors[sequence](raw[index])
    return hold_back_ends(scores, sequences, ends.tensor)


def _sample(scores: torch.Tensor, sequences: list[SequenceState]) -> torch.Tensor:
    """scores (n, k, vocab) float32; returns one drawn token per row, (n, k) int64.

    A row's draw is one uniform number of its own request, looked up in its cumulative distribution: the same seed
    gives the same sample whatever else is in the batch.
    """
    num_rows, vocab_size = scores.shape[1:]
    scores = warp(scores.reshape(-1, vocab_size), [sequence for sequence in sequences for _ in range(num_rows)])
    draws = [[number] for sequence in sequences for number in sequence.draws()]
    uniform = torch.tensor(draws, dtype=torch.float64).to(scores.device)
    mass = scores.softmax(dim=-1).double().cumsum(dim=-1)
    tokens = torch.searchsorted(mass, uniform * mass[:, -1:], right=True)
    return tokens.clamp(max=vocab_size - 1).view(-1, num_rows)


def warp(scores: torch.Tensor, rows: list[SequenceState]) -> torch.Tensor:
    """Apply temperature, top-k, top-p and min-p, each row by its own options; scores (rows, vocab) float32.

    As transformers' warpers do it: tokens that tie with the k-th stay, and top-p keeps at least the best token. First
    each row's best score becomes 0, which changes no probability: so a tiny temperature sends the others to -inf
    instead of the best to inf.
    """
    vocab_size = scores.shape[1]
    options = [row.options for row in rows]
    smallest_float = torch.finfo(scores.dtype).tiny
    temperatures = [max(option.temperature, smallest_float) for option in options]
    scores = (scores - scores.amax(dim=1, keepdim=True)) / _column(temperatures, scores)
    if any(option.top_k for option in options):
        ranks = [min(option.top_k or vocab_size, vocab_size) for option in options]
        best = scores.topk(max(ranks)).values
        smallest = best.gather(1, torch.tensor(ranks, device=scores.device)[:, None] - 1)
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    if any(option.top_p < 1.0 for option in options):
        ascending, indices = scores.sort(dim=-1)
        mass = ascending.softmax(dim=-1).cumsum(dim=-1)
        # A row with top_p = 1 gets a limit below every mass, so that nothing of it is dropped.
        limits = [1 - option.top_p if option.top_p < 1.0 else -1.0 for option in options]
        dropped = mass <= _column(limits, scores)
        dropped[:, -1] = False
        scores = scores.masked_fill(dropped.scatter(1, indices, dropped), -torch.inf)
    if any(option.min_p for option in options):
        mass = scores.softmax(dim=-1)
        least = mass.amax(dim=1, keepdim=True) * _column([option.min_p for option in options], scores)
        scores = scores.masked_fill(mass < least, -torch.inf)
    return scores


def _column(numbers: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device)[:, None]
