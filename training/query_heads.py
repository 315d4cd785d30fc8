"""One attribute for each of the first queries, read by a linear head that is dropped after training.

Through the language model alone the Q-Former learns nothing for a long time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from training.model import TEXT_WIDTH
from training.pictures.scenes import ABOVE, COLORS, LEFT_OF, SHAPES, Scene

COLOR_NAMES = list(COLORS)
RELATIONS = (None, LEFT_OF, ABOVE)
# The attribute of query i, and its number of classes: the second item's may be "none".
QUERY_CLASSES = {
    "first shape": len(SHAPES),
    "first color": len(COLORS),
    "second shape": len(SHAPES) + 1,
    "second color": len(COLORS) + 1,
    "background": len(COLORS),
    "relation": len(RELATIONS),
}
BOX_QUERIES = slice(len(QUERY_CLASSES), len(QUERY_CLASSES) + 2)  # the first and the second item's box
# The next queries tell the colour of the circle, of the square, ..., or "none" or "several". They bind shape and
# colour, which the language model would otherwise have to do in two steps, and learn much later.
FIRST_COLOR_OF = BOX_QUERIES.stop
NO_COLOR, SEVERAL_COLORS = len(COLORS), len(COLORS) + 1
BOX_WEIGHT = 10.0


@dataclass
class QueryLabels:
    """Labels of the queries of n pictures."""

    classes: Tensor  # (n, len(QUERY_CLASSES))
    colors_of: Tensor  # (n, len(SHAPES)) the colour that each shape has
    boxes: Tensor  # (n, 2, 4) centre and size as shares of the picture; nan where there is no second item


def query_labels(scenes: Sequence[Scene]) -> QueryLabels:
    """Label scenes."""
    boxes = [[_box(scene, index) for index in range(2)] for scene in scenes]
    classes, colors_of = [_classes(scene) for scene in scenes], [_colors_of(scene) for scene in scenes]
    return QueryLabels(torch.tensor(classes), torch.tensor(colors_of), torch.tensor(boxes))


def _classes(scene: Scene) -> list[int]:
    none = [len(SHAPES), len(COLORS)]
    items = [[SHAPES.index(item.shape), COLOR_NAMES.index(item.color)] for item in scene.items]
    first, second = items if len(items) == 2 else (items[0], none)
    return [*first, *second, COLOR_NAMES.index(scene.background), RELATIONS.index(scene.relation)]


def _colors_of(scene: Scene) -> list[int]:
    colors = [[COLOR_NAMES.index(item.color) for item in scene.items if item.shape == shape] for shape in SHAPES]
    return [SEVERAL_COLORS if len(found) > 1 else found[0] if found else NO_COLOR for found in colors]


def _box(scene: Scene, index: int) -> tuple[float, float, float, float]:
    if index >= len(scene.items):
        return (float("nan"),) * 4
    item = scene.items[index]
    x, y = item.center
    return x / scene.width, y / scene.height, item.side / scene.width, item.side / scene.height


class QueryHeads(nn.Module):
    """Linear heads on the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.ModuleList(nn.Linear(TEXT_WIDTH, number) for number in QUERY_CLASSES.values())
        self.color_of = nn.Linear(TEXT_WIDTH, len(COLORS) + 2)
        self.box = nn.Linear(TEXT_WIDTH, 4)

    def forward(self, queries: Tensor, labels: QueryLabels) -> tuple[Tensor, dict[str, float]]:
        """Return the loss, and each attribute's accuracy; queries (n, NUM_QUERY_TOKENS, TEXT_WIDTH)."""
        loss = self._box_loss(queries[:, BOX_QUERIES], labels.boxes)
        logits = self.color_of(queries[:, FIRST_COLOR_OF : FIRST_COLOR_OF + len(SHAPES)]).float()
        loss = loss + len(SHAPES) * cross_entropy(logits.flatten(0, 1), labels.colors_of.flatten())
        accuracies = {"colors of shapes": (logits.argmax(2) == labels.colors_of).float().mean().item()}
        for index, (name, head) in enumerate(zip(QUERY_CLASSES, self.classes, strict=True)):
            logits, target = head(queries[:, index]).float(), labels.classes[:, index]
            loss = loss + cross_entropy(logits, target)
            accuracies[name] = (logits.argmax(1) == target).float().mean().item()
        return loss, accuracies

    def _box_loss(self, queries: Tensor, boxes: Tensor) -> Tensor:
        known = ~boxes.isnan()
        return BOX_WEIGHT * smooth_l1_loss(self.box(queries).float()[known], boxes[known], beta=0.05)
