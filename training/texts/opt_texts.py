"""Texts from which the OPT checkpoint learns.

A picture's image tokens are followed by two texts that do not see each other: the caption, as it is generated
from an empty prompt or from any prefix, and a conversation, whose first turn is a plain question. Both share one
sequence, so that image tokens are computed once for both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from training.model import NUM_QUERY_TOKENS
from training.patch_heads import IGNORED
from training.pictures.scenes import Scene
from training.texts.language import Turn, caption, sample_conversation, spoken
from training.texts.tokenizer import END_OF_ANSWER, IMAGE_TOKEN, MAX_CONTEXT

MAX_TURNS = 5
IMAGE_ROWS, CAPTION, CONVERSATION, PADDING = range(4)


@dataclass
class OptTexts:
    """n packed sequences of t tokens each, image tokens first; all (n, t) int64."""

    ids: Tensor
    labels: Tensor  # the next token, IGNORED where nothing is learned
    positions: Tensor
    segments: Tensor  # IMAGE_ROWS, CAPTION, CONVERSATION or PADDING

    def mask(self) -> Tensor:
        """Additive attention mask (n, 1, t, t) float32: a token sees its own text up to itself, and image tokens."""
        length = self.ids.shape[1]
        same = self.segments[:, :, None] == self.segments[:, None, :]
        rows = (self.segments == IMAGE_ROWS)[:, None, :]
        allowed = (same | rows) & torch.ones(length, length, dtype=torch.bool).tril()
        return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.bfloat16).min)[:, None]


class OptPacker:
    """Turns scenes into packed sequences."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.bos, self.pad = tokenizer.bos_token_id, tokenizer.pad_token_id
        self.image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.encode = lru_cache(maxsize=100_000)(self._encode)
        (self.end,) = self.encode(END_OF_ANSWER)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def pack(self, scenes: Sequence[Scene], rng: random.Random) -> OptTexts:
        """Pack one sequence for each scene, padded on the right to the longest."""
        rows = [self._row(scene, rng) for scene in scenes]
        length = max(len(row) for row in rows)
        empty = (self.pad, IGNORED, 0, PADDING)
        columns = torch.tensor([row + [empty] * (length - len(row)) for row in rows]).unbind(2)
        return OptTexts(*columns)

    def _row(self, scene: Scene, rng: random.Random) -> list[tuple[int, int, int, int]]:
        """(id, label, position, segment) of each token."""
        row = [(self.image_token, IGNORED, place, IMAGE_ROWS) for place in range(NUM_QUERY_TOKENS)]
        turns = sample_conversation(scene, rng, rng.randint(1, MAX_TURNS))
        for segment, (ids, labels) in (
            (CAPTION, self._caption(scene)),
            (CONVERSATION, self.conversation([spoken(turn, rng) for turn in turns])),
        ):
            start = NUM_QUERY_TOKENS
            if segment == CONVERSATION and rng.random() < 0.15:
                # Train the later places of a long context, too, without the cost of long conversations.
                start = rng.randrange(NUM_QUERY_TOKENS, MAX_CONTEXT - len(ids))
            places = range(start, start + len(ids))
            row += [(*token, segment) for token in zip(ids, labels, places, strict=True)]
        return row

    def _caption(self, scene: Scene) -> tuple[list[int], list[int]]:
        said = self.encode(caption(scene))
        return [self.bos, *said], [*said, self.end]

    def conversation(self, turns: list[Turn]) -> tuple[list[int], list[int]]:
        """Return ids and labels of "Question: q1 Answer: a1. Question: q2 Answer: a2".

        A full stop follows an answer where the conversation goes on, but the label there is the end of an answer:
        each turn is learned as if it were the last.
        """
        ids, labels = [self.bos], [IGNORED]
        for index, turn in enumerate(turns):
            prompt = self.encode(f"{' ' if index else ''}Question: {turn.question} Answer:")
            answer = self.encode(f" {turn.answer}")
            stop = self.encode(".") if index < len(turns) - 1 else ()
            ids += [*prompt, *answer, *stop]
            labels += [*[IGNORED] * (len(prompt) - 1), *answer, self.end, *[IGNORED] * len(stop)]
        return ids, labels


def opt_loss(model: Blip2ForConditionalGeneration, queries: Tensor, texts: OptTexts) -> Tensor:
    """Return the language model's cross-entropy on `texts`; queries (n, NUM_QUERY_TOKENS, TEXT_WIDTH)."""
    language_model = model.language_model
    embeds = language_model.get_input_embeddings()(texts.ids[:, NUM_QUERY_TOKENS:])
    rows = model.language_projection(queries)
    hidden = language_model.model(
        inputs_embeds=torch.cat([rows.to(embeds.dtype), embeds], dim=1),
        attention_mask=texts.mask(),
        position_ids=texts.positions,
        use_cache=False,
    ).last_hidden_state
    said = texts.labels != IGNORED
    return cross_entropy(language_model.lm_head(hidden[said]).float(), texts.labels[said])
