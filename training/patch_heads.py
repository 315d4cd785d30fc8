"""Dense labels for the tower: the content of each patch, read by linear heads that are dropped after training.

Each patch predicts the item that covers it, its shape and colour, how far that item reaches to each side, and the
silhouette inside the patch. Shapes are told by their edges, whatever the colours: without silhouettes and extents
they are learned very late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from training.model import VISION_WIDTH
from training.pictures.drawing import Style, draw_item
from training.pictures.pool import GRID, IMAGE_SIZE, PATCH_SIZE, Bytes
from training.pictures.scenes import COLORS, SHAPES, Scene
from training.query_heads import query_labels

CELLS = 7  # of a patch, along either side
MIN_COVERED = 0.08  # share of a patch that an item must cover to label it
IGNORED = -100
SILHOUETTE_WEIGHT = 5.0


@dataclass
class PatchLabels:
    """Labels of the GRID * GRID patches of n pictures."""

    order: Tensor  # (n, patches) 0 background, 1 first, 2 second item
    shapes: Tensor  # (n, patches) IGNORED on the background
    colors: Tensor  # (n, patches) IGNORED on the background
    extents: Tensor  # (n, patches, 4) patches from the centre to the item's left, top, right, bottom
    silhouettes: Tensor  # (n, patches, CELLS * CELLS) share of each cell that an item covers


def patch_labels(scenes: Sequence[Scene], styles: Sequence[Style]) -> PatchLabels:
    """Label scenes, each drawn in its style."""
    masks = np.stack([_cell_masks(scene, style) for scene, style in zip(scenes, styles, strict=True)])
    cells = _by_patch(torch.from_numpy(masks).float() / 255)
    most, which = cells.mean(dim=3).max(dim=1)
    order = torch.where(most >= MIN_COVERED, which + 1, 0)
    items = query_labels(scenes)
    shapes, colors = (_of_item(items.classes[:, [first, first + 2]], order) for first in (0, 1))
    return PatchLabels(order, shapes, colors, _extents(items.boxes, order), cells.amax(dim=1))


def _of_item(values: Tensor, order: Tensor) -> Tensor:
    """Give each patch its item's value, (n, patches); values (n, 2)."""
    background = torch.full((len(values), 1), IGNORED)
    return torch.cat([background, values], dim=1).gather(1, order)


def _extents(boxes: Tensor, order: Tensor) -> Tensor:
    """Measure from each patch to its item's edges; meaningless on the background."""
    centers, sizes = boxes[..., :2] * GRID, boxes[..., 2:] * GRID
    edges = torch.cat([centers - sizes / 2, centers + sizes / 2], dim=2)
    mine = edges.gather(1, (order - 1).clamp(min=0)[..., None].expand(-1, -1, 4))
    across, down = torch.meshgrid(torch.arange(GRID) + 0.5, torch.arange(GRID) + 0.5, indexing="xy")
    return mine - torch.stack([across, down, across, down], dim=2).flatten(0, 1)


def _cell_masks(scene: Scene, style: Style) -> Bytes:
    """Masks of the first and the second item: (2, GRID * CELLS, GRID * CELLS) uint8, 255 where covered."""
    masks = np.zeros((2, GRID * CELLS, GRID * CELLS), np.uint8)
    scale = (IMAGE_SIZE / scene.width, IMAGE_SIZE / scene.height)
    for mask, item in zip(masks, scene.items, strict=False):
        image = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
        draw_item(ImageDraw.Draw(image), item, 255, style, scale)
        mask[:] = np.asarray(image.reduce(PATCH_SIZE // CELLS))
    return masks


def _by_patch(masks: Tensor) -> Tensor:
    """Regroup (n, 2, GRID * CELLS, GRID * CELLS) to (n, 2, GRID * GRID, CELLS * CELLS)."""
    cells = masks.reshape(len(masks), 2, GRID, CELLS, GRID, CELLS)
    return cells.transpose(3, 4).flatten(4).flatten(2, 3)


class PatchHeads(nn.Module):
    """Linear heads on the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.order = nn.Linear(VISION_WIDTH, 3)
        self.shape = nn.Linear(VISION_WIDTH, len(SHAPES))
        self.color = nn.Linear(VISION_WIDTH, len(COLORS))
        self.silhouette = nn.Linear(VISION_WIDTH, CELLS * CELLS)
        self.extent = nn.Linear(VISION_WIDTH, 4)

    def forward(self, patches: Tensor, labels: PatchLabels) -> Tensor:
        """Return the loss; patches (n, 1 + GRID * GRID, VISION_WIDTH), the class token first."""
        patches = patches[:, 1:]
        covered = labels.order > 0
        # Nine in ten patches are background: give the items' patches about the same weight in all.
        order = cross_entropy(_logits(self.order, patches), labels.order, torch.tensor([0.2, 1.0, 1.0]))
        shapes = cross_entropy(_logits(self.shape, patches), labels.shapes)
        colors = cross_entropy(_logits(self.color, patches), labels.colors)
        outline = binary_cross_entropy_with_logits(self.silhouette(patches).float(), labels.silhouettes)
        extent = smooth_l1_loss(self.extent(patches[covered]).float(), labels.extents[covered], beta=0.25)
        return order + shapes + colors + SILHOUETTE_WEIGHT * outline + extent


def _logits(head: nn.Linear, patches: Tensor) -> Tensor:
    """Return logits (n, classes, patches) float32, as cross_entropy wants them."""
    logits: Tensor = head(patches)
    return logits.float().transpose(1, 2)
