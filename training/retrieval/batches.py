"""Pictures as the frozen tower sees them, and statements about them to tell apart."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Blip2ForImageTextRetrieval, PreTrainedTokenizerFast

from training.data import normalise
from training.pictures.pool import Bytes
from training.pictures.scenes import Scene, rng_for
from training.retrieval.statements import Statement, part, swapped, whole

CHUNK = 200
PART_SHARE = 0.3  # of the statements: the others are captions
NUM_SWAPPED = 2  # false statements for each true one


@dataclass
class Texts:
    """n texts of t tokens, padded on the right; both (n, t) int64."""

    ids: Tensor
    attention_mask: Tensor


@dataclass
class Batch:
    """n pictures, a true statement about each, then NUM_SWAPPED false ones about each.

    `texts` are (1 + NUM_SWAPPED) * n, the true ones first.
    `is_true` (n pictures, n true statements) tells which of them hold.
    """

    states: Tensor  # (n, patches, width), the tower's, before its last norm
    texts: Texts
    is_true: Tensor


@torch.no_grad()
def see(model: Blip2ForImageTextRetrieval, images: Bytes) -> Tensor:
    """Run the tower on m pictures, then on these flipped: (2 * m, patches, width) bfloat16, before the last norm."""
    flipped = images[:, :, ::-1]
    chunks = [side[first : first + CHUNK] for side in (images, flipped) for first in range(0, len(images), CHUNK)]
    return torch.cat([states_of(model, normalise(chunk.copy())).bfloat16() for chunk in tqdm(chunks, "seeing")])


def states_of(model: Blip2ForImageTextRetrieval, pixels: Tensor) -> Tensor:
    """Run the tower without its last norm: (n, patches, width) float32."""
    tower = model.vision_model
    states: Tensor = tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state
    return states


def batches(
    states: Tensor, scenes: Sequence[Scene], tokenizer: PreTrainedTokenizerFast, batch_size: int, start: int = 0
) -> Iterator[Batch]:
    """Yield endless batches; batch `start` is the same whether or not those before it were made."""
    for step in itertools.count(start):
        rng = rng_for("retrieval batch", step)
        chosen = rng.choices(range(len(states)), k=batch_size)
        shown = [scenes[index] for index in chosen]
        true = [_true(scene, rng) for scene in shown]
        false = [swapped(each, scene, rng) for _ in range(NUM_SWAPPED) for each, scene in zip(true, shown, strict=True)]
        holds = torch.tensor([[each.holds(scene) for each in true] for scene in shown])
        yield Batch(states[chosen].float(), encode([each.text for each in [*true, *false]], tokenizer), holds)


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Texts:
    """Tokenise texts, padded to the longest."""
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt")
    return Texts(encoded.input_ids, encoded.attention_mask)


def _true(scene: Scene, rng: random.Random) -> Statement:
    return part(scene, rng) if rng.random() < PART_SHARE else whole(scene)
