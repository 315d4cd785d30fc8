"""transformers' logits processors for the rows that ask for them, in transformers' order.

Greedy and sampled rows pass logits, beams pass log-probabilities. Source: transformers 5.24,
`generation/logits_process.py` and `GenerationMixin._get_logits_processor`.
"""

from collections.abc import Sequence

import torch

from blip2_serve.engine.sequence import SequenceState


class LogitsProcessors:
    """Repetition penalty and no-repeat n-grams of one sequence; minimum lengths are `hold_back_ends`.

    `ids` (rows, length) int64 are all that its rows have seen: OPT's whole prompt, image tokens and BOS included, or
    T5's decoder start, then the new tokens.
    """

    def __init__(self, sequence: SequenceState, device: torch.device) -> None:
        self._sequence = sequence
        self.ids = torch.tensor([sequence.prefix.seen_ids], device=device).expand(sequence.shape.num_rows, -1)

    @staticmethod
    def needed(sequence: SequenceState) -> bool:
        options = sequence.options
        return options.repetition_penalty != 1.0 or options.no_repeat_ngram_size > 0

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """scores (rows, vocab) float32; returns processed scores of the same shape."""
        options = self._sequence.options
        if options.repetition_penalty != 1.0:
            scores = penalise_repetition(scores, self.ids, options.repetition_penalty)
        if options.no_repeat_ngram_size > 0:
            scores = ban_repeated_ngrams(scores, self.ids, options.no_repeat_ngram_size)
        return scores

    def continued(self, tokens: torch.Tensor, parents: torch.Tensor | None) -> torch.Tensor:
        """The `ids` after row r has said tokens[r] as a continuation of parents[r]; both (rows,) int64."""
        ids = self.ids if parents is None else self.ids[parents]
        return torch.cat([ids, tokens[:, None]], dim=1)


def hold_back_ends(scores: torch.Tensor, sequences: Sequence[SequenceState], end_ids: torch.Tensor) -> torch.Tensor:
    """Ban end tokens before `min_new_tokens`, last of all processors; scores (n, rows, vocab) float32."""
    too_short = [sequence.num_steps < sequence.options.min_new_tokens for sequence in sequences]
    if not any(too_short):
        return scores
    endless = scores.index_fill(2, end_ids, -torch.inf)
    if all(too_short):
        return endless
    return endless.where(torch.tensor(too_short, device=scores.device)[:, None, None], scores)


def penalise_repetition(scores: torch.Tensor, ids: torch.Tensor, penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative scores (rows, vocab) of every id that occurs in `ids` (rows, length)."""
    penalised = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(_mark(scores, ids), penalised, scores)


def ban_repeated_ngrams(scores: torch.Tensor, ids: torch.Tensor, size: int) -> torch.Tensor:
    """Ban in scores (rows, vocab) every token that would repeat an n-gram of `size` tokens in `ids` (rows, length)."""
    length = ids.shape[1]
    if length < size:
        return scores
    windows = ids.unfold(1, size, 1)
    suffix = ids[:, length + 1 - size :]
    matches = (windows[..., :-1] == suffix[:, None]).all(dim=-1)
    nothing = scores.shape[1]
    return scores.masked_fill(_mark(scores, torch.where(matches, windows[..., -1], nothing)), -torch.inf)


def _mark(scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Bool like `scores` (rows, vocab): True at each row's ids; an id outside the vocabulary marks nothing."""
    num_rows, vocab_size = scores.shape
    marks = torch.zeros((num_rows, vocab_size + 1), dtype=torch.bool, device=scores.device)
    return marks.scatter_(1, ids.clamp(max=vocab_size), True)[:, :vocab_size]
