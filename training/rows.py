"""Image tokens of a finished tower and Q-Former, kept so that a language model learns without computing them again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Blip2ForConditionalGeneration

from training.data import Packer, normalise
from training.pictures.pool import Bytes, training_scene
from training.pictures.scenes import Scene, rng_for

CHUNK = 200


@dataclass
class RowBatch:
    """Image tokens of n pictures, and the texts to learn about them."""

    rows: Tensor  # (n, NUM_QUERY_TOKENS, TEXT_WIDTH), bfloat16, before the projection
    texts: Any  # the family's, about all n


@torch.no_grad()
def read(model: Blip2ForConditionalGeneration, images: Bytes) -> Tensor:
    """Compute image tokens of m pictures, then of these flipped: (2 * m, NUM_QUERY_TOKENS, TEXT_WIDTH) bfloat16."""
    flipped = images[:, :, ::-1]
    chunks = [side[first : first + CHUNK] for side in (images, flipped) for first in range(0, len(images), CHUNK)]
    return torch.cat([_read(model, chunk.copy()) for chunk in tqdm(chunks, "reading")])


def _read(model: Blip2ForConditionalGeneration, images: Bytes) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        patches = model.vision_model(pixel_values=normalise(images)).last_hidden_state
        queries = model.query_tokens.expand(len(patches), -1, -1)
        rows: Tensor = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
    return rows.bfloat16()


def read_scenes(num_pictures: int) -> list[Scene]:
    """Return the scenes of the first pool pictures, then of these flipped, in the order of `read`."""
    scenes = [training_scene(index)[0] for index in range(num_pictures)]
    return [*scenes, *(scene.mirrored() for scene in scenes)]


def row_batches(
    rows: Tensor, scenes: Sequence[Scene], packer: Packer, batch_size: int, start: int = 0
) -> Iterator[RowBatch]:
    """Yield endless batches; batch `start` is the same whether or not those before it were made."""
    for step in itertools.count(start):
        rng = rng_for("row batch", step)
        chosen = rng.choices(range(len(rows)), k=batch_size)
        yield RowBatch(rows[chosen], packer.pack([scenes[index] for index in chosen], rng))
