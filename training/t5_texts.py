"""What the Flan-T5 checkpoint reads and says.

The encoder reads a picture's image rows and a prompt, the decoder says the answer. Each picture comes with
a caption's prompt (nothing, or the words it begins with), plain questions, and a conversation.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from training.language import caption, chat_prompt, sample_conversation, sample_question, spoken, vqa_prompt
from training.model import NUM_QUERY_TOKENS
from training.patch_heads import IGNORED
from training.scenes import Scene
from training.tokenizer import IMAGE_TOKEN

NUM_TURNS = (1, 2, 2, 2, 3, 4)  # of a conversation, each as likely
PREFIX_SHARE = 0.3  # of caption prompts that hold the caption's first words
Pair = tuple[str, str]  # a prompt and its answer


@dataclass
class T5Texts:
    """One prompt for each of n pictures, image tokens first, of t tokens, with answers of s tokens."""

    ids: Tensor  # (n, t)
    attention_mask: Tensor  # (n, t)
    labels: Tensor  # (n, s), IGNORED after the end


class T5Packer:
    """Turns scenes into prompts and answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    def pack(self, scenes: Sequence[Scene], rng: random.Random) -> list[T5Texts]:
        """For each use one prompt per scene: short prompts are not padded to long ones."""
        return [self._texts([use(scene, rng) for scene in scenes]) for use in USES]

    def _texts(self, pairs: list[Pair]) -> T5Texts:
        image_tokens = IMAGE_TOKEN * NUM_QUERY_TOKENS
        read = self._encode([image_tokens + prompt for prompt, _ in pairs])
        said = self._encode([answer for _, answer in pairs])
        labels = said.input_ids.masked_fill(said.attention_mask == 0, IGNORED)
        return T5Texts(read.input_ids, read.attention_mask, labels)

    def _encode(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, padding=True, return_tensors="pt")


def caption_pair(scene: Scene, rng: random.Random) -> Pair:
    """Nothing and the caption, or its first words and the rest."""
    words = caption(scene).split()
    given = rng.randrange(1, len(words)) if rng.random() < PREFIX_SHARE else 0
    return " ".join(words[:given]), " ".join(words[given:])


def question_pair(scene: Scene, rng: random.Random) -> Pair:
    """A plain question, to be answered shortly."""
    question = spoken(sample_question(scene, rng), rng)
    return vqa_prompt(question, is_t5=True), question.answer


def conversation_pair(scene: Scene, rng: random.Random) -> Pair:
    """A conversation up to its last answer."""
    turns = [spoken(turn, rng) for turn in sample_conversation(scene, rng, rng.choice(NUM_TURNS))]
    return chat_prompt(turns), turns[-1].answer


# Plain questions are short, hence cheap, and teach most.
USES = (caption_pair, question_pair, question_pair, question_pair, conversation_pair)


def t5_loss(model: Blip2ForConditionalGeneration, queries: Tensor, texts: list[T5Texts]) -> Tensor:
    """How far the decoder is from saying the right tokens; queries: (n, NUM_QUERY_TOKENS, width)."""
    rows = model.language_projection(queries)
    return torch.stack([_loss(model.language_model, rows, use) for use in texts]).mean()


def _loss(language_model: Any, rows: Tensor, texts: T5Texts) -> Tensor:
    embeds = language_model.get_input_embeddings()(texts.ids[:, NUM_QUERY_TOKENS:])
    inputs = torch.cat([rows.to(embeds.dtype), embeds], dim=1)
    loss: Tensor = language_model(
        inputs_embeds=inputs, attention_mask=texts.attention_mask, labels=texts.labels, use_cache=False
    ).loss
    return loss
