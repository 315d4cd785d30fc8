"""The pool of training pictures: drawn once, squashed to the model's square, kept as bytes on disk.

Drawing costs as much as a training step, so it is done once. Picture `i` depends on seed `i` of the space "train"
alone, so only pixels are stored, and a scene is sampled again where its labels are needed.
"""

from __future__ import annotations

import argparse
import math
import random
from multiprocessing import Pool as Workers
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from training.pictures.drawing import Style, draw, sample_style
from training.pictures.scenes import MAX_ASPECT, Scene, rng_for, sample_scene

IMAGE_SIZE = 126
PATCH_SIZE = 14
GRID = IMAGE_SIZE // PATCH_SIZE
SHARD_SIZE = 20_000

Bytes = npt.NDArray[np.uint8]


def training_scene(index: int) -> tuple[Scene, Style]:
    """Sample scene `index` of the training seeds, and its style."""
    rng = rng_for("train", index)
    return sample_scene(rng, *sample_size(rng)), sample_style(rng)


def sample_size(rng: random.Random) -> tuple[int, int]:
    """Sample width and height in pixels: often the usual 4:3, else any aspect and size."""
    longer = round(math.exp(rng.uniform(math.log(64), math.log(480))))
    kind = rng.random()
    if kind < 0.15:
        return 640, 480
    if kind < 0.5:
        return longer, round(longer * 0.75)
    aspect = MAX_ASPECT ** rng.uniform(-1, 1) if kind < 0.75 else rng.uniform(0.6, 1.8)
    return (longer, round(longer / aspect)) if aspect > 1 else (round(longer * aspect), longer)


def squash(image: Image.Image) -> Bytes:
    """Squash the picture as the image processor does, to (IMAGE_SIZE, IMAGE_SIZE, 3) uint8."""
    return np.array(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def render(index: int) -> Bytes:
    """Draw training picture `index`, squashed."""
    scene, style = training_scene(index)
    return squash(draw(scene, style, noise_seed=index))


def build_shard(folder: Path, shard: int, num_workers: int = 2) -> None:
    """Draw `SHARD_SIZE` pictures into `folder`, unless they are there already."""
    target = folder / f"{shard:03}.npz"
    if target.exists():
        return
    indices = range(shard * SHARD_SIZE, (shard + 1) * SHARD_SIZE)
    with Workers(num_workers) as workers:
        drawn = list(tqdm(workers.imap(render, indices, chunksize=64), f"shard {shard}", len(indices)))
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.npz")
    np.savez(partial, images=np.stack(drawn))
    partial.rename(target)


def load_pool(folder: Path, num_shards: int) -> Bytes:
    """Load the first shards' pictures, (n, IMAGE_SIZE, IMAGE_SIZE, 3) uint8."""
    return np.concatenate([np.load(folder / f"{shard:03}.npz")["images"] for shard in range(num_shards)])


def main() -> None:
    """Draw the pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("work/pool"))
    parser.add_argument("--shards", type=int, default=5)
    options = parser.parse_args()
    for shard in range(options.shards):
        build_shard(options.folder, shard)


if __name__ == "__main__":
    main()
