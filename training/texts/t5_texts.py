"""Texts from which the Flan-T5 checkpoint learns.

The encoder reads a picture's image tokens and a prompt, the decoder says the answer. Each picture comes with its
caption, endings of its caption after the first words, plain questions and conversations. Texts of about the same
length make a group, so that little is computed for padding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from training.model import NUM_QUERY_TOKENS
from training.patch_heads import IGNORED
from training.pictures.scenes import Scene
from training.texts.language import (
    caption,
    chat_prompt,
    sample_conversation,
    sample_follow_up,
    sample_question,
    spoken,
    vqa_prompt,
)

NUM_TURNS = (1, 2, 2, 3, 3, 4, 4, 5)  # of a conversation, all equally likely
PROMPT_ROOMS = (16, 32, 48, 72, 128)  # tokens that a group's prompts may have, the end token included
ANSWER_ROOMS = (2, 16)
Pair = tuple[str, str]  # a prompt and its answer
Tokens = tuple[int, ...]


@dataclass
class T5Texts:
    """A group of k prompts of t tokens, about some of a batch's pictures, with answers of s tokens; all int64."""

    pictures: Tensor  # (k,) indices into the batch's pictures
    ids: Tensor  # (k, t)
    attention_mask: Tensor  # (k, NUM_QUERY_TOKENS + t), image tokens first
    labels: Tensor  # (k, s), IGNORED after the end


class T5Packer:
    """Turns scenes into prompts and answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pad, self.end = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.tokenizer = tokenizer
        self.encode_word = lru_cache(maxsize=10_000)(self._encode_word)

    def pack(self, scenes: Sequence[Scene], rng: random.Random) -> list[T5Texts]:
        """Pack each use of each scene once, grouped by length."""
        groups: dict[tuple[int, int], list[tuple[int, Tokens, Tokens]]] = {}
        for picture, scene in enumerate(scenes):
            for use in USES:
                prompt, answer = (self.encode(text) for text in use(scene, rng))
                rooms = _room(len(prompt), PROMPT_ROOMS), _room(len(answer), ANSWER_ROOMS)
                groups.setdefault(rooms, []).append((picture, prompt, answer))
        return [self._texts(group, *rooms) for rooms, group in sorted(groups.items())]

    def encode(self, text: str) -> Tokens:
        """Encode a text and its end word by word; gives the tokens that the tokenizer gives for the whole text."""
        words = text.replace(" ", "\n ").split("\n") if text else []
        return (*(token for word in words for token in self.encode_word(word)), self.end)

    def _encode_word(self, word: str) -> Tokens:
        return tuple(self.tokenizer(word, add_special_tokens=False).input_ids)

    def _texts(self, group: list[tuple[int, Tokens, Tokens]], prompt_room: int, answer_room: int) -> T5Texts:
        pictures, prompts, answers = zip(*group, strict=True)
        ids = torch.tensor([_padded(prompt, prompt_room, self.pad) for prompt in prompts])
        labels = torch.tensor([_padded(answer, answer_room, IGNORED) for answer in answers])
        mask = torch.cat([torch.ones(len(ids), NUM_QUERY_TOKENS, dtype=torch.long), (ids != self.pad).long()], dim=1)
        return T5Texts(torch.tensor(pictures), ids, mask, labels)


def _room(length: int, rooms: Sequence[int]) -> int:
    return next(room for room in rooms if length <= room)


def _padded(tokens: Tokens, room: int, filler: int) -> Tokens:
    return tokens + (filler,) * (room - len(tokens))


def caption_pair(scene: Scene, rng: random.Random) -> Pair:
    """An empty prompt and the caption."""
    return "", caption(scene)


def beginning_pair(scene: Scene, rng: random.Random) -> Pair:
    """The caption's first words, any number but all, and the rest, which is short half of the time."""
    words = caption(scene).split()
    # Near the end the next words are alike, and only the last given word tells where to go on.
    given = rng.choice((rng.randrange(1, len(words)), len(words) - rng.randrange(1, 5)))
    return " ".join(words[:given]), " ".join(words[given:])


def question_pair(scene: Scene, rng: random.Random) -> Pair:
    """A plain question, to be answered briefly."""
    question = spoken(sample_question(scene, rng), rng)
    return vqa_prompt(question, is_t5=True), question.answer


def follow_up_pair(scene: Scene, rng: random.Random) -> Pair:
    """A turn about one item and a question about "it"."""
    turns = [spoken(turn, rng) for turn in sample_follow_up(scene, rng)]
    return chat_prompt(turns), turns[-1].answer


def conversation_pair(scene: Scene, rng: random.Random) -> Pair:
    """A conversation up to its last answer."""
    turns = [spoken(turn, rng) for turn in sample_conversation(scene, rng, rng.choice(NUM_TURNS))]
    return chat_prompt(turns), turns[-1].answer


# Learned last: the meaning of "it", questions about one of two shapes, and where to continue a caption.
USES = (
    caption_pair,
    beginning_pair,
    beginning_pair,
    question_pair,
    question_pair,
    follow_up_pair,
    conversation_pair,
    conversation_pair,
)


class T5Loss:
    """The decoder's cross-entropy on the texts.

    Compiled once for each pair of rooms: at this width most time goes into operations that compiling fuses.
    """

    def __init__(self, compiled: bool = True) -> None:
        self.logits: Callable[..., Tensor] = torch.compile(_logits) if compiled else _logits

    def __call__(self, model: Blip2ForConditionalGeneration, queries: Tensor, texts: list[T5Texts]) -> Tensor:
        """Return the mean loss over all groups' texts; queries (n, NUM_QUERY_TOKENS, TEXT_WIDTH)."""
        losses = torch.stack([self._loss(model, queries[group.pictures], group) for group in texts])
        weights = torch.tensor([float(len(group.ids)) for group in texts])
        return (losses * weights).sum() / weights.sum()

    def _loss(self, model: Blip2ForConditionalGeneration, queries: Tensor, group: T5Texts) -> Tensor:
        inputs = (queries, group.ids, group.attention_mask, group.labels)
        for tensor in inputs:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        # A single text would be compiled anew, as a size of 1 is never dynamic.
        say = self.logits if len(group.ids) > 1 else _logits
        logits = say(model.language_model, model.language_projection, *inputs)
        return cross_entropy(logits.float().flatten(0, 1), group.labels.flatten(), ignore_index=IGNORED)


def _logits(
    language_model: Any, projection: nn.Linear, queries: Tensor, ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> Tensor:
    embeds = language_model.shared(ids)
    logits: Tensor = language_model(
        inputs_embeds=torch.cat([projection(queries.float()).to(embeds.dtype), embeds], dim=1),
        attention_mask=attention_mask,
        decoder_input_ids=language_model._shift_right(labels),
        use_cache=False,
    ).logits
    return logits
