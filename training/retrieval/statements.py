"""Statements about scenes, true and false ones: captions as `demo` writes them, and parts of captions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from training.pictures.scenes import ABOVE, COLORS, LEFT_OF, SHAPES, Scene
from training.texts.language import with_article

Named = tuple[str, str]  # colour and shape


@dataclass(frozen=True)
class Statement:
    """One or two items in order, perhaps their relation, perhaps a background.

    With a background it is a caption and claims to name everything; without one it is a part, such as "a red circle".
    """

    items: tuple[Named, ...]
    relation: str | None = None
    background: str | None = None

    @property
    def text(self) -> str:
        """Spell it as a caption, or as a caption's beginning."""
        names = [with_article(f"{color} {shape}") for color, shape in self.items]
        words = f"{names[0]} {self.relation} {names[1]}" if self.relation else names[0]
        return f"{words} on {with_article(self.background)} background" if self.background else words

    def holds(self, scene: Scene) -> bool:
        """True if the statement is right about the scene."""
        if self.background is None and len(self.items) == 1:
            return self.items[0] in named(scene)
        is_caption_right = self.background in (None, scene.background)
        return is_caption_right and (self.items, self.relation) == (named(scene), scene.relation)


def named(scene: Scene) -> tuple[Named, ...]:
    """Return the colour and shape of each item, in order."""
    return tuple((item.color, item.shape) for item in scene.items)


def whole(scene: Scene) -> Statement:
    """Return the caption."""
    return Statement(named(scene), scene.relation, scene.background)


def part(scene: Scene, rng: random.Random) -> Statement:
    """Sample a part of the caption: an item, or, of two, both with their relation."""
    items = named(scene)
    if len(items) == 2 and rng.random() < 0.5:
        return Statement(items, scene.relation)
    return Statement((rng.choice(items),))


def swapped(statement: Statement, scene: Scene, rng: random.Random) -> Statement:
    """Return the statement with one attribute changed so that it is false about the scene."""
    changes: list[Callable[[Statement, random.Random], Statement]] = [_color, _shape]
    changes += [_relation, _order] if statement.relation else []
    changes += [_background] if statement.background else []
    while (false := rng.choice(changes)(statement, rng)).holds(scene):
        pass
    return false


def _other(names: list[str], name: str, rng: random.Random) -> str:
    return rng.choice([each for each in names if each != name])


def _with_item(statement: Statement, index: int, item: Named) -> Statement:
    items = list(statement.items)
    items[index] = item
    return replace(statement, items=tuple(items))


def _color(statement: Statement, rng: random.Random) -> Statement:
    index = rng.randrange(len(statement.items))
    color, shape = statement.items[index]
    return _with_item(statement, index, (_other(list(COLORS), color, rng), shape))


def _shape(statement: Statement, rng: random.Random) -> Statement:
    index = rng.randrange(len(statement.items))
    color, shape = statement.items[index]
    return _with_item(statement, index, (color, _other(list(SHAPES), shape, rng)))


def _relation(statement: Statement, rng: random.Random) -> Statement:
    return replace(statement, relation=ABOVE if statement.relation == LEFT_OF else LEFT_OF)


def _order(statement: Statement, rng: random.Random) -> Statement:
    return replace(statement, items=statement.items[::-1])


def _background(statement: Statement, rng: random.Random) -> Statement:
    assert statement.background is not None
    return replace(statement, background=_other(list(COLORS), statement.background, rng))
