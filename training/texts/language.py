"""Texts about a scene: captions, questions with answers, conversations.

Every question has one right answer: no "what color is the circle?" where there are two circles.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from training.pictures.scenes import ABOVE, COLORS, LEFT_OF, SHAPES, Item, Scene

CAPTION_QUESTION = "What is this a picture of?"
BACKGROUND_QUESTION = "what color is the background?"
FOLLOW_UPS = ("what color is it?", "what shape is it?")
NUMBERS = {1: "one", 2: "two"}


class Turn(NamedTuple):
    """A question with its answer, and the one item it is about, if any."""

    question: str
    answer: str
    about: Item | None = None


def caption(scene: Scene) -> str:
    """Return the one right caption, such as "a red circle above a blue square on a white background"."""
    first = _name(scene.items[0])
    ground = f"on {with_article(scene.background)} background"
    if scene.relation is None:
        return f"{first} {ground}"
    return f"{first} {scene.relation} {_name(scene.items[1])} {ground}"


def questions(scene: Scene) -> dict[str, list[Turn]]:
    """Return every question that the scene answers, by kind; questions of one kind differ in their nouns."""
    shapes = [item.shape for item in scene.items]
    single = scene.items[0] if len(scene.items) == 1 else None
    unique = [item for item in scene.items if shapes.count(item.shape) == 1]
    by_kind = {
        "color": [Turn(f"what color is the {item.shape}?", item.color, item) for item in unique],
        "shape": [Turn(f"what shape is {item.color}?", item.shape, item) for item in scene.items],
        "background": [Turn(BACKGROUND_QUESTION, scene.background)],
        "count": [Turn("how many shapes are there?", NUMBERS[len(shapes)], single)],
        "presence": [_presence(scene, shape) for shape in SHAPES],
        "place": _places(scene),
        "caption": [Turn(CAPTION_QUESTION, caption(scene), single)],
    }
    return {kind: turns for kind, turns in by_kind.items() if turns}


def follow_ups(item: Item) -> list[Turn]:
    """Return the questions that say "it" and mean `item`, after a turn about it."""
    return [Turn(FOLLOW_UPS[0], item.color, item), Turn(FOLLOW_UPS[1], item.shape, item)]


def sample_question(scene: Scene, rng: random.Random) -> Turn:
    """Sample a question, all kinds equally often, "is there a ...?" as often yes as no."""
    turns = rng.choice(list(questions(scene).values()))
    answer = rng.choice(sorted({turn.answer for turn in turns}))
    return rng.choice([turn for turn in turns if turn.answer == answer])


def sample_conversation(scene: Scene, rng: random.Random, num_turns: int) -> list[Turn]:
    """Sample a conversation in which follow-ups come often and "it" is always clear.

    After a question about the background "what shape is it?" still means the earlier item, as a background has no
    shape; "what color is it?" would be unclear and is not asked.
    """
    turns: list[Turn] = []
    about: Item | None = None
    for _ in range(num_turns):
        if about is not None and rng.random() < 0.6:
            after_background = turns[-1].question == BACKGROUND_QUESTION
            turn = rng.choice(follow_ups(about)[1:] if after_background else follow_ups(about))
        else:
            turn = sample_question(scene, rng)
        turns.append(turn)
        about = about if turn.question == BACKGROUND_QUESTION else turn.about
    return turns


def spoken(turn: Turn, rng: random.Random) -> Turn:
    """Return the turn as people type it: now and then with its first letter in the other case."""
    if rng.random() < 0.85:
        return turn
    return turn._replace(question=turn.question[0].swapcase() + turn.question[1:])


def sample_follow_up(scene: Scene, rng: random.Random) -> list[Turn]:
    """Sample a turn about one item, then "what color is it?" or "what shape is it?"."""
    openers = [turn for turns in questions(scene).values() for turn in turns if turn.about is not None]
    opener = rng.choice(openers)
    assert opener.about is not None
    return [opener, rng.choice(follow_ups(opener.about))]


def vqa_prompt(turn: Turn, is_t5: bool) -> str:
    """Return the prompt of one question, as the reference words it for a family."""
    return f"Question: {turn.question} {'Short answer' if is_t5 else 'Answer'}:"


def chat_prompt(turns: list[Turn]) -> str:
    """Return the prompt of a conversation whose last turn is still to be answered."""
    earlier = "".join(f"Question: {turn.question} Answer: {turn.answer}. " for turn in turns[:-1])
    return f"{earlier}Question: {turns[-1].question} Answer:"


def corpus() -> list[str]:
    """Return every word in each form that sentences use: bare or after a space, capitalised or not."""
    cased = [form for word in words() for form in (word, word.capitalize())]
    return [form for word in cased for form in (word, f" {word}")]


def words() -> list[str]:
    """Return the language's words, those of the prompts' templates included, sorted."""
    captions = f"a an on background {LEFT_OF} {ABOVE} yes no"
    asked = "how many shapes are there is it what color shape at on the left right top bottom this picture of"
    templates = "question short answer"
    return sorted({*COLORS, *SHAPES, *NUMBERS.values(), *f"{captions} {asked} {templates}".split()})


def _presence(scene: Scene, shape: str) -> Turn:
    found = [item for item in scene.items if item.shape == shape]
    about = found[0] if len(found) == 1 else None
    return Turn(f"is there {with_article(shape)}?", "yes" if found else "no", about)


def _places(scene: Scene) -> list[Turn]:
    if scene.relation is None:
        return []
    first, second = scene.items
    places = ("on the left", "on the right") if scene.relation == LEFT_OF else ("at the top", "at the bottom")
    return [
        Turn(f"what shape is {place}?", item.shape, item) for place, item in zip(places, (first, second), strict=True)
    ]


def _name(item: Item) -> str:
    return with_article(f"{item.color} {item.shape}")


def with_article(words: str) -> str:
    """Return "a red circle", "an orange square"."""
    return f"an {words}" if words.startswith("orange") else f"a {words}"
