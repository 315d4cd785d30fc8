"""Texts as a Q-Former reads them: BERT's word and position embeddings, and a mask where texts are padded."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812


class Words:
    """Embeds texts; `embeddings` has transformers' `word_embeddings` and `position_embeddings`."""

    def __init__(self, embeddings: Any) -> None:
        self._words = embeddings.word_embeddings.weight.data
        self._positions = embeddings.position_embeddings.weight.data

    def __call__(self, texts: Sequence[Sequence[int]], num_queries: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embed ids of n texts, none empty, to (n, longest, width), padded on the right.

        Returns with them a mask (n, 1, 1, num_queries + longest) bool, True where a token may be seen, the queries
        before the text included; None without padding.
        """
        lengths = torch.tensor([len(ids) for ids in texts], device=self._words.device)
        longest = max(map(len, texts))
        ids = [[*each, *[0] * (longest - len(each))] for each in texts]
        indices = torch.tensor(ids, dtype=torch.int64, device=self._words.device)
        words = F.embedding(indices, self._words) + self._positions[:longest]
        if min(map(len, texts)) == longest:
            return words, None
        places = torch.arange(num_queries + longest, device=self._words.device)
        return words, (places < num_queries + lengths[:, None])[:, None, None]
