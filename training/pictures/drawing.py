"""Draws a scene with PIL, in the many ways a picture can be made.

`Style` holds what does not change the meaning: antialiasing, exact proportions, colours a little off, noise.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from training.pictures.scenes import COLORS, Item, Scene

Box = tuple[float, float, float, float]
Point = tuple[float, float]
NOISE_TILE = 256


@dataclass(frozen=True)
class Style:
    """The look of a drawn scene; the defaults give a clean antialiased picture in the usual colours."""

    supersample: int = 2  # drawn this many times as large, then averaged; 1 is not antialiased
    star_inner: float = 0.45  # inner radius of a star as a share of the outer one
    triangle_height: float = 1.0  # height as a share of the box; 0.866 is equilateral
    diamond_width: float = 1.0  # width as a share of its height
    fill_box: bool = True  # a star stretched to fill its box, or regular inside it
    # Added to the channels of each colour.
    color_shifts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    noise: float = 0.0  # standard deviation in grey levels, drawn for each channel
    jpeg_quality: int | None = None


def sample_style(rng: random.Random) -> Style:
    """Sample a style as found in strangers' pictures."""
    return Style(
        supersample=rng.choice((1, 2, 2, 2)),
        star_inner=rng.uniform(0.36, 0.52),
        triangle_height=rng.choice((1.0, 0.866, rng.uniform(0.85, 1.0))),
        diamond_width=rng.choice((1.0, 1.0, rng.uniform(0.8, 1.0))),
        fill_box=rng.random() < 0.5,
        color_shifts={name: _shift(rng) for name in COLORS},
        noise=rng.choice((0.0, 0.0, rng.uniform(1.0, 10.0))),
        jpeg_quality=rng.choice((None, rng.randint(50, 95), rng.randint(50, 95))),
    )


def draw(scene: Scene, style: Style | None = None, noise_seed: int = 0) -> Image.Image:
    """Draw `scene` as an RGB image of its own width and height."""
    style = style or Style()
    scale = style.supersample
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), _rgb(scene.background, style))
    canvas = ImageDraw.Draw(image)
    for item in scene.items:
        draw_item(canvas, item, _rgb(item.color, style), style, (scale, scale))
    if scale > 1:
        image = image.reduce(scale)
    if style.noise:
        image = _with_noise(image, style.noise, noise_seed)
    return image if style.jpeg_quality is None else as_jpeg(image, style.jpeg_quality)


def draw_item(
    canvas: ImageDraw.ImageDraw, item: Item, fill: int | tuple[int, int, int], style: Style, scale: Point
) -> None:
    """Fill one item onto `canvas`, whose pixels are `scale` = (across, down) times the scene's."""
    left, top = item.left * scale[0], item.top * scale[1]
    box = (left, top, left + item.side * scale[0], top + item.side * scale[1])
    if item.shape == "circle":
        canvas.ellipse(_inclusive(box), fill=fill)
    elif item.shape == "square":
        canvas.rectangle(_inclusive(box), fill=fill)
    else:
        canvas.polygon(_corners(item.shape, box, style), fill=fill)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return the picture as it comes back from a JPEG file of the given quality."""
    return Image.open(io.BytesIO(jpeg_bytes(image, quality))).convert("RGB")


def jpeg_bytes(image: Image.Image, quality: int) -> bytes:
    """Encode the picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _corners(shape: str, box: Box, style: Style) -> list[Point]:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    middle_x, middle_y = left + width / 2, top + height / 2
    if shape == "triangle":
        spare = height * (1 - style.triangle_height) / 2
        return [(middle_x, top + spare), (right, bottom - spare), (left, bottom - spare)]
    if shape == "diamond":
        half = width / 2 * style.diamond_width
        return [(middle_x, top), (middle_x + half, middle_y), (middle_x, bottom), (middle_x - half, middle_y)]
    return [(left + x * width, top + y * height) for x, y in _unit_star(style.star_inner, style.fill_box)]


def _unit_star(inner: float, fill_box: bool) -> list[Point]:
    """Ten corners of an upright five-pointed star inside the unit square."""
    points = []
    for corner in range(10):
        radius = 1.0 if corner % 2 == 0 else inner
        angle = math.pi * (corner / 5 - 0.5)
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    if not fill_box:
        return [((x + 1) / 2, (y + 1) / 2) for x, y in points]
    lowest, widest = max(y for _, y in points), max(x for x, _ in points)
    return [((x / widest + 1) / 2, (y + 1) / (lowest + 1)) for x, y in points]


def _inclusive(box: Box) -> Box:
    """Shrink a box for PIL, whose ellipse and rectangle include the last pixel; never turns a small box inside out."""
    left, top, right, bottom = box
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _rgb(color: str, style: Style) -> tuple[int, int, int]:
    shift = style.color_shifts.get(color, (0, 0, 0))
    red, green, blue = (min(255, max(0, c + s)) for c, s in zip(COLORS[color], shift, strict=True))
    return red, green, blue


def _shift(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(-12, 12), rng.randint(-12, 12), rng.randint(-12, 12)


def _with_noise(image: Image.Image, deviation: float, seed: int) -> Image.Image:
    """Add noise from one seeded tile, shifted: fresh noise for every pixel would cost more than the drawing."""
    pixels = np.asarray(image, dtype=np.float32)
    rng = random.Random(seed)
    tile = np.roll(_noise_tile(), (rng.randrange(NOISE_TILE), rng.randrange(NOISE_TILE)), axis=(0, 1))
    repeats = (-(-image.height // NOISE_TILE), -(-image.width // NOISE_TILE), 1)
    noise = np.tile(tile, repeats)[: image.height, : image.width]
    return Image.fromarray((pixels + deviation * noise).clip(0, 255).astype(np.uint8))


@cache
def _noise_tile() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((NOISE_TILE, NOISE_TILE, 3), dtype=np.float32)
