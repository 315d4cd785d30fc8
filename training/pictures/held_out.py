"""Pictures for evaluation: no training seed drew them, and some are drawn by other code altogether.

`python -m training.pictures.held_out` writes those that the project shows: `demo.jpeg` and the web page's examples.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.pictures.drawing import Style, as_jpeg, draw, jpeg_bytes, sample_style
from training.pictures.scenes import COLORS, Item, Scene, rng_for, sample_scene

Picture = tuple[Scene, Image.Image]
ROOT = Path(__file__).parent.parent.parent
DEMO_FILE = ROOT / "demo.jpeg"
DEMO_SCENE = Scene(640, 480, "blue", (Item("star", "yellow", 70, 110, 230), Item("diamond", "red", 390, 200, 180)))
EXAMPLES = {
    "circle-above-square.jpeg": Scene(
        480, 480, "white", (Item("circle", "green", 150, 40, 170), Item("square", "orange", 175, 270, 160))
    ),
    "triangle.jpeg": Scene(640, 400, "black", (Item("triangle", "purple", 210, 90, 220),)),
}
Mask = npt.NDArray[np.bool_]


def standard(index: int) -> Picture:
    """Return held-out picture `index` of the published score: 640x480, from a JPEG of quality 60 to 95."""
    rng = rng_for("held-out", index)
    scene = sample_scene(rng, 640, 480)
    style = sample_style(rng)
    image = draw(scene, Style(style.supersample, color_shifts=style.color_shifts, noise=style.noise), index)
    return scene, as_jpeg(image, rng.randint(60, 95))


def sized(width: int, height: int) -> Callable[[int], Picture]:
    """Draw pictures of another size or aspect, not through JPEG."""

    def picture(index: int) -> Picture:
        scene = sample_scene(rng_for(f"held-out {width}x{height}", index), width, height)
        return scene, draw(scene)

    return picture


def styled(style: Callable[[random.Random], Style]) -> Callable[[int], Picture]:
    """Draw pictures of 640x480 in styles made by `style`."""

    def picture(index: int) -> Picture:
        rng = rng_for("held-out styled", index)
        scene = sample_scene(rng, 640, 480)
        return scene, draw(scene, style(rng), index)

    return picture


def by_another_hand(index: int) -> Picture:
    """Draw without PIL and without our outlines: each shape is a formula evaluated at every pixel."""
    rng = rng_for("held-out by another hand", index)
    scene = sample_scene(rng, 640, 480)
    pixels = np.full((scene.height * 2, scene.width * 2, 3), COLORS[scene.background], np.uint8)
    down, across = np.mgrid[: scene.height * 2, : scene.width * 2] / 2 + 0.25
    for item in scene.items:
        x = (across - item.left) / item.side * 2 - 1
        y = (down - item.top) / item.side * 2 - 1
        pixels[_inside(item, x, y, rng)] = COLORS[item.color]
    return scene, as_jpeg(Image.fromarray(pixels).resize((scene.width, scene.height)), rng.randint(60, 95))


def _inside(item: Item, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], rng: random.Random) -> Mask:
    """True for points of the item; its box reaches from -1 to 1 along both axes, y downwards."""
    match item.shape:
        case "circle":
            return x**2 + y**2 <= 1
        case "square":
            return np.maximum(abs(x), abs(y)) <= 1
        case "diamond":
            return abs(x) + abs(y) <= rng.choice((1.0, 0.85))
        case "triangle":
            equilateral = (y <= 1) & (2 * abs(x) <= y + 1)
            return equilateral if rng.random() < 0.5 else (y <= 0.73) & (abs(x) <= (y + 1) / 1.73)
        case _:
            return _in_star(x, y, inner=rng.uniform(0.38, 0.5))


def _in_star(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], inner: float) -> Mask:
    """True inside one of five points: below the line from the nearest tip to the notch beside it."""
    turn = 2 * np.pi / 5
    angle = abs((np.arctan2(x, -y) + turn / 2) % turn - turn / 2)
    radius = np.hypot(x, y)
    notch_x, notch_y = inner * np.cos(turn / 2), inner * np.sin(turn / 2)
    inside: Mask = radius * (np.cos(angle) * notch_y + np.sin(angle) * (1 - notch_x)) <= notch_y
    return inside


VARIANTS: dict[str, Callable[[int], Picture]] = {
    "100x75": sized(100, 75),
    "64x64": sized(64, 64),
    "1200x400": sized(1200, 400),
    "400x1200": sized(400, 1200),
    "not antialiased": styled(lambda rng: Style(supersample=1)),
    "colors off by 10": styled(
        lambda rng: Style(
            color_shifts={name: (10, -10, 10) if rng.random() < 0.5 else (-10, 10, -10) for name in COLORS}
        )
    ),
    "noise of 8 grey levels": styled(lambda rng: Style(noise=8.0)),
    "drawn by another hand": by_another_hand,
}


if __name__ == "__main__":
    for file, scene in {
        DEMO_FILE: DEMO_SCENE,
        **{ROOT / "blip2_serve" / "ui" / "examples" / name: EXAMPLES[name] for name in EXAMPLES},
    }.items():
        file.write_bytes(jpeg_bytes(draw(scene, Style(supersample=4)), quality=92))
