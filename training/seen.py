"""Patch states of the finished tower, kept so that words can be learned without computing them again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from training.data import Packer, normalise
from training.pictures.pool import Bytes, training_scene
from training.pictures.scenes import rng_for
from training.query_heads import QueryLabels, query_labels

CHUNK = 200


@dataclass
class SeenBatch:
    """n pictures after the tower, with what is left to learn from them."""

    patches: Tensor  # (n, 1 + GRID * GRID, VISION_WIDTH), bfloat16
    query_labels: QueryLabels
    texts: Any  # the family's, about all n


@torch.no_grad()
def see(vision: Callable[..., Any], images: Bytes) -> Tensor:
    """Run the tower on pool pictures, half of them flipped: (n, 1 + GRID * GRID, VISION_WIDTH) bfloat16."""
    flipped = [is_flipped(index) for index in range(len(images))]
    seen = []
    for first in tqdm(range(0, len(images), CHUNK), "seeing"):
        chunk = images[first : first + CHUNK].copy()
        chosen = flipped[first : first + CHUNK]
        chunk[chosen] = chunk[chosen][:, :, ::-1]
        with torch.autocast("cpu", torch.bfloat16):
            seen.append(vision(pixel_values=normalise(chunk)).last_hidden_state.bfloat16())
    return torch.cat(seen)


def is_flipped(index: int) -> bool:
    """True if pool picture `index` is seen flipped left to right: half of them are."""
    return rng_for("flip", index).random() < 0.5


def seen_batches(patches: Tensor, packer: Packer, batch_size: int, start: int = 0) -> Iterator[SeenBatch]:
    """Yield endless batches; batch `start` is the same whether or not those before it were made."""
    for step in itertools.count(start):
        rng = rng_for("seen batch", step)
        chosen = rng.choices(range(len(patches)), k=batch_size)
        drawn = [(training_scene(index)[0], is_flipped(index)) for index in chosen]
        scenes = [scene.mirrored() if flip else scene for scene, flip in drawn]
        yield SeenBatch(patches[chosen], query_labels(scenes), packer.pack(scenes, rng))
