"""Beam search by transformers' rules, for n requests with the same number of beams k at once.

Source: transformers 5.24, `GenerationMixin._beam_search`, which this follows operation by operation, so that equal
logits give equal beams, ties included. Only the bookkeeping differs: a hypothesis is not stored as a sequence but as
a code, the (step, parent row, token) of its last token; `SequenceState.path` finds the rest. And a request leaves the
batch as soon as it is done, so what guards finished requests in transformers' batch is not needed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Self

import torch

from blip2_serve.engine.sequence import SequenceState

NEVER = -1.0e9


@dataclass(slots=True)
class Beams:
    """State of n requests: running beams and the best k hypotheses that have finished.

    running_scores (n, k) float32: sums of log-probabilities. scores (n, k) float32: finished hypotheses, divided by
    length ** length_penalty, best first. finished (n, k) bool: which of them are real. codes (n, k) int64 and
    end_logprobs (n, k) float32: where they end.
    """

    running_scores: torch.Tensor
    scores: torch.Tensor
    finished: torch.Tensor
    codes: torch.Tensor
    end_logprobs: torch.Tensor

    @classmethod
    def empty(cls, num_requests: int, num_beams: int, device: torch.device) -> Self:
        shape = (num_requests, num_beams)
        return cls(
            running_scores=torch.zeros(shape, device=device),
            scores=torch.zeros(shape, device=device),
            finished=torch.zeros(shape, dtype=torch.bool, device=device),
            codes=torch.zeros(shape, dtype=torch.int64, device=device),
            end_logprobs=torch.zeros(shape, device=device),
        )

    def tensors(self) -> Iterator[torch.Tensor]:
        return (getattr(self, field.name) for field in fields(self))

    def apply(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Beams":
        return Beams(*(change(tensor) for tensor in self.tensors()))

    def view(self, start: int, stop: int) -> "Beams":
        return self.apply(lambda tensor: tensor[start:stop])

    def update(self, other: "Beams") -> None:
        """Copy the values of `other`, in place."""
        for mine, new in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(new)

    def reset(self) -> None:
        """Begin a search: before its first step only beam 0 counts, as the others hold the same text."""
        self.running_scores.fill_(NEVER)
        self.running_scores[:, 0] = 0.0
        self.scores.fill_(NEVER)
        self.finished.fill_(False)
        self.codes.fill_(0)


@dataclass(frozen=True, slots=True)
class BeamRules:
    """The options of n requests as tensors (n, 1), for the step that makes their token number `length`.

    divisor and best_divisor are length ** length_penalty, for hypotheses that end now and for the best that a
    running beam may become; at_limit and stops_early are bool; step (n, 1) int64 is `length - 1`.
    """

    step: torch.Tensor
    divisor: torch.Tensor
    best_divisor: torch.Tensor
    at_limit: torch.Tensor
    stops_early: torch.Tensor

    @classmethod
    def of(cls, sequences: list[SequenceState], device: torch.device) -> Self:
        # Powers in Python's float64 and then rounded, as transformers does it.
        rules = torch.tensor([_rule(sequence) for sequence in sequences], dtype=torch.float64).to(device)
        step, divisor, best_divisor, at_limit, stops_early = rules[:, :, None].unbind(1)
        return cls(step.long(), divisor.float(), best_divisor.float(), at_limit.bool(), stops_early.bool())


def _rule(sequence: SequenceState) -> tuple[float, float, float, bool, bool]:
    options = sequence.options
    length = sequence.num_steps + 1
    looks_ahead = options.early_stopping == "never" and options.length_penalty > 0.0
    best_length = options.max_new_tokens if looks_ahead else length
    return (
        sequence.num_steps,
        length**options.length_penalty,
        best_length**options.length_penalty,
        length >= options.max_new_tokens,
        options.early_stopping is True,
    )


@dataclass(frozen=True, slots=True)
class EndTokens:
    """The ids that end a text: as a set, as a tensor int64 and as marks (vocab,) bool on the vocabulary."""

    ids: frozenset[int]
    tensor: torch.Tensor
    marks: torch.Tensor

    @classmethod
    def of(cls, ids: tuple[int, ...], vocab_size: int, device: torch.device) -> Self:
        tensor = torch.tensor(ids, dtype=torch.int64, device=device)
        marks = torch.zeros(vocab_size, dtype=torch.bool, device=device).index_fill_(0, tensor, True)
        return cls(frozenset(ids), tensor, marks)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best continuations of n requests, best first: (n, kept) each, kept = max(2, 1 + end tokens) * k.

    scores and logprobs are float32, parents and tokens int64, ends bool.
    """

    scores: torch.Tensor
    parents: torch.Tensor
    tokens: torch.Tensor
    ends: torch.Tensor
    logprobs: torch.Tensor


@dataclass(frozen=True, slots=True)
class BeamStep:
    """The decisions of a step, and the new state.

    tokens, parents (n, k) int64; logprobs (n, k) float32, raw; done (n, 1) bool.
    """

    tokens: torch.Tensor
    parents: torch.Tensor
    logprobs: torch.Tensor
    done: torch.Tensor
    beams: Beams


def beam_step(
    beams: Beams, logprobs: torch.Tensor, processed: torch.Tensor, ends: EndTokens, rules: BeamRules
) -> BeamStep:
    """Pick the next beams of n requests.

    logprobs and processed (n, k, vocab) float32: log-softmax of the logits, before and after the logits processors.
    """
    num_beams, vocab_size = logprobs.shape[1:]
    candidates = _best_candidates(beams, logprobs, processed, ends, rules)
    running = candidates.scores + candidates.ends.float() * NEVER
    kept = running.topk(num_beams).indices
    after = _finish(beams, candidates, rules, num_beams, vocab_size)
    after.running_scores = running.gather(1, kept)
    done = _is_done(after, rules) | candidates.ends.all(dim=1, keepdim=True)
    tokens, parents = candidates.tokens.gather(1, kept), candidates.parents.gather(1, kept)
    return BeamStep(tokens, parents, candidates.logprobs.gather(1, kept), done, after)


def _best_candidates(
    beams: Beams, logprobs: torch.Tensor, processed: torch.Tensor, ends: EndTokens, rules: BeamRules
) -> Candidates:
    num_requests, num_beams, vocab_size = logprobs.shape
    num_kept = max(2, 1 + len(ends.ids)) * num_beams
    totals = (processed + beams.running_scores[:, :, None]).view(num_requests, -1)
    scores, indices = totals.topk(num_kept)
    tokens = indices % vocab_size
    return Candidates(
        scores=scores,
        parents=indices // vocab_size,
        tokens=tokens,
        ends=ends.marks[tokens] | rules.at_limit,
        logprobs=logprobs.view(num_requests, -1).gather(1, indices),
    )


def _finish(beams: Beams, candidates: Candidates, rules: BeamRules, num_beams: int, vocab_size: int) -> Beams:
    """Merge the candidates that end now into the best k hypotheses; only the first k candidates may finish."""
    may_finish = candidates.ends.clone()
    may_finish[:, num_beams:] = False
    scores = candidates.scores / rules.divisor + (~may_finish).float() * NEVER
    codes = (rules.step * num_beams + candidates.parents) * vocab_size + candidates.tokens
    merged = torch.cat([beams.scores, scores], dim=1)
    best = merged.topk(num_beams).indices
    return Beams(
        running_scores=beams.running_scores,
        scores=merged.gather(1, best),
        finished=torch.cat([beams.finished, may_finish], dim=1).gather(1, best),
        codes=torch.cat([beams.codes, codes], dim=1).gather(1, best),
        end_logprobs=torch.cat([beams.end_logprobs, candidates.logprobs], dim=1).gather(1, best),
    )


def _is_done(beams: Beams, rules: BeamRules) -> torch.Tensor:
    """(n, 1) bool: no running beam, judged at its best length, beats the worst of k finished hypotheses."""
    best_running = beams.running_scores[:, :1] / rules.best_divisor
    worst_finished = torch.where(beams.finished, beams.scores.amin(dim=1, keepdim=True), NEVER)
    can_win = (best_running > worst_finished).any(dim=1, keepdim=True)
    return ~can_win | (rules.stops_early & beams.finished.all(dim=1, keepdim=True))
