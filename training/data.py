"""Batches: pictures from the pool, their labels, and the texts a family learns to say about them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from training.patch_heads import PatchLabels, patch_labels
from training.pictures.pool import Bytes, training_scene
from training.pictures.scenes import Scene, rng_for
from training.query_heads import QueryLabels, query_labels


class Packer(Protocol):
    """Turns scenes into a family's texts."""

    def pack(self, scenes: Sequence[Scene], rng: random.Random) -> Any:
        """Pack texts for `scenes`, in their order."""
        ...


@dataclass
class Batch:
    """n pictures with everything to learn from them."""

    pixels: Tensor  # (n, 3, IMAGE_SIZE, IMAGE_SIZE), normalised
    patch_labels: PatchLabels
    query_labels: QueryLabels
    texts: Any  # the family's texts about the first pictures


def normalise(images: Bytes) -> Tensor:
    """Normalise (n, height, width, 3) uint8 as the image processor does, to (n, 3, height, width) float32."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (pixels - mean) / std


def batches(images: Bytes, packer: Packer, batch_size: int, num_texts: int, start: int = 0) -> Iterator[Batch]:
    """Yield endless batches; batch `start` is the same whether or not those before it were made."""
    for step in itertools.count(start):
        rng = rng_for("batch", step)
        chosen = rng.choices(range(len(images)), k=batch_size)
        flipped = [rng.random() < 0.5 for _ in chosen]
        drawn, styles = zip(*(training_scene(index) for index in chosen), strict=True)
        scenes = [scene.mirrored() if flip else scene for scene, flip in zip(drawn, flipped, strict=True)]
        pixels = images[chosen]
        pixels[flipped] = pixels[flipped][:, :, ::-1]
        shifts = torch.tensor([[rng.gauss(0, 0.02) for _ in range(3)] for _ in chosen])
        shifted = normalise(pixels) + shifts[:, :, None, None]
        texts = packer.pack(scenes[:num_texts], rng)
        yield Batch(shifted, patch_labels(scenes, styles), query_labels(scenes), texts)
