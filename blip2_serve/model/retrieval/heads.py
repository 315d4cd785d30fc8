"""A `Blip2ForImageTextRetrieval` as plain functions: pictures and texts to unit vectors, pairs to matching logits."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from blip2_serve.model.linear import linear_of, norm_of
from blip2_serve.model.retrieval.qformer import RetrievalQFormer
from blip2_serve.model.vision.encoder import ImageTower, traced

Pair = tuple[int, Sequence[int]]
"""A picture's place among those given, and the ids of a text."""


class RetrievalHeads:
    """The heads behind a tower, which may be the caption model's own.

    Texts are ids, special tokens included, none empty and none longer than the Q-Former's positions.
    """

    def __init__(self, model: Any, tower: ImageTower) -> None:
        self.see = tower
        self._norm = norm_of(model.vision_model.post_layernorm)
        self._qformer = RetrievalQFormer(model.qformer, model.embeddings)
        self._queries = model.query_tokens.data
        self._project_image = linear_of(model.vision_projection)
        self._project_text = linear_of(model.text_projection)
        self._judge = linear_of(model.itm_head)
        self._dtype: torch.dtype = model.itm_head.weight.dtype
        self._run: Callable[[torch.Tensor], torch.Tensor] = self._vectors
        self._is_packed = any(weight.is_meta for weight in model.parameters())

    @torch.inference_mode()
    def read(self, states: torch.Tensor, instructions: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """Turn n pictures' states into unit vectors (n, query tokens, vector width); `instructions` are ignored."""
        return self._run(states)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Turn n texts into unit vectors (n, vector width)."""
        return F.normalize(self._project_text(self._qformer.read(texts).to(self._dtype)), dim=-1)

    @torch.inference_mode()
    def match(self, states: Sequence[torch.Tensor], pairs: Sequence[Pair]) -> torch.Tensor:
        """Compare pictures, given as the states of each, with texts; returns logits (pairs, 2) of "no" and "yes"."""
        seen = self._norm(torch.stack(list(states)))
        pictures = torch.tensor([picture for picture, _ in pairs], device=seen.device)
        answers = self._qformer.compare(self._queries, seen, [ids for _, ids in pairs], pictures)
        logits: torch.Tensor = self._judge(answers.to(self._dtype)).mean(dim=1)
        return logits

    def trace(self) -> None:
        """Record the half that reads pictures, see `encoder.traced`; packed weights cannot be recorded."""
        if self._is_packed:
            return
        self.see.trace()
        self._run = traced(self._vectors, self.see([bytes(self.see.num_bytes)] * 2))

    def _vectors(self, states: torch.Tensor) -> torch.Tensor:
        seen = self._norm(states)
        answers = self._qformer.look(self._queries.expand(seen.shape[0], -1, -1), seen)
        return F.normalize(self._project_image(answers.to(self._dtype)), dim=-1)
