"""Read and compare the texts of several requests at once."""

from collections.abc import Sequence
from typing import Protocol

import torch

from blip2_serve.engine.messages import Retrieved
from blip2_serve.engine.retrieval.sequence import RetrievalState

Pair = tuple[int, Sequence[int]]


class CompareTexts(Protocol):
    """The half of the retrieval heads that reads texts, see model/retrieval/heads.py."""

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Unit vectors of n texts, (n, width)."""
        ...

    def match(self, states: Sequence[torch.Tensor], pairs: Sequence[Pair]) -> torch.Tensor:
        """Logits (pairs, 2) of pictures, given as their states, with texts."""
        ...


def compare(heads: CompareTexts, sequences: Sequence[RetrievalState]) -> dict[RetrievalState, Retrieved]:
    """Answer requests; equal texts are read once, and a picture's states are stacked once."""
    vectors = _text_vectors(heads, sequences)
    logits = iter(_logits(heads, [sequence for sequence in sequences if sequence.request.compares]))
    answers = {}
    for sequence in sequences:
        texts = sequence.request.texts
        own = torch.stack([vectors[ids] for ids in texts]).numpy().tobytes()
        compared = tuple(next(logits) for _ in texts) if sequence.request.compares else ()
        answers[sequence] = sequence.answer(own, compared)
    return answers


def _text_vectors(heads: CompareTexts, sequences: Sequence[RetrievalState]) -> dict[tuple[int, ...], torch.Tensor]:
    texts = list(dict.fromkeys(ids for sequence in sequences for ids in sequence.request.texts))
    return dict(zip(texts, heads.embed_texts(texts).float().cpu(), strict=True))


def _logits(heads: CompareTexts, sequences: Sequence[RetrievalState]) -> list[tuple[float, float]]:
    """Logits of each request's picture with each of its texts, one request after the other."""
    if not sequences:
        return []
    places: dict[int, int] = {}  # by the identity of a picture's states, which requests about one picture share
    states: list[torch.Tensor] = []
    pairs: list[Pair] = []
    for sequence in sequences:
        assert sequence.sight is not None, "only a request with a picture compares"
        picture = sequence.sight.states
        if id(picture) not in places:
            places[id(picture)] = len(states)
            states.append(picture)
        pairs += [(places[id(picture)], ids) for ids in sequence.request.texts]
    return [(no, yes) for no, yes in heads.match(states, pairs).float().tolist()]
