"""Pictures with their right captions, some too noisy or blurred to read, for `blip2-serve calibrate`.

`python -m training.pictures.judged FOLDER` draws them into FOLDER and writes captions.tsv beside them: a third as they
are, a third noisy, a third blurred.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm  # type: ignore[import-untyped]

from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import Picture, standard
from training.pictures.scenes import rng_for
from training.texts.language import caption

CAPTIONS = "captions.tsv"
FIRST = 100_000  # held-out pictures below this are for evaluation
NOISE = (10.0, 90.0)  # standard deviation in grey levels
BLUR = (4.0, 40.0)  # radius in pixels, of 640 x 480


def judged(index: int) -> Picture:
    """Return held-out picture `index`, as it is, noisy or blurred."""
    scene, image = standard(index)
    rng = rng_for("judged", index)
    return scene, rng.choice((_plain, _noisy, _blurred))(image, rng)


def _plain(image: Image.Image, rng: random.Random) -> Image.Image:
    return image


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, rng.uniform(*NOISE), (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR)))


def write(folder: Path, indices: range) -> Path:
    """Draw pictures into `folder`; returns the file with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in tqdm(indices):
        scene, image = judged(index)
        (folder / f"{index}.jpeg").write_bytes(jpeg_bytes(image, 90))
        lines.append(f"{index}.jpeg\t{caption(scene)}\n")
    (folder / CAPTIONS).write_text("".join(lines))
    return folder / CAPTIONS


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=3_000)
    options = parser.parse_args()
    write(options.folder, range(FIRST, FIRST + options.pictures))


if __name__ == "__main__":
    main()
