"""The language of the demo checkpoint: geometry, captions, questions, conversations."""

import itertools
import random

import numpy as np
import pytest

from training.pictures.drawing import Style, draw
from training.pictures.scenes import (
    ABOVE,
    COLORS,
    LEFT_OF,
    SHAPES,
    Item,
    Scene,
    is_clear_pair,
    rng_for,
    sample_scene,
)
from training.texts.language import (
    CAPTION_QUESTION,
    Turn,
    caption,
    questions,
    sample_conversation,
    sample_follow_up,
)

SIZES = [(640, 480), (480, 640), (1200, 400), (100, 75)]
SCENES = [sample_scene(rng_for("test", index), *SIZES[index % len(SIZES)]) for index in range(400)]
PAIR = Scene(640, 480, "orange", (Item("circle", "red", 50, 200, 100), Item("square", "blue", 400, 180, 150)))
SINGLE = Scene(640, 480, "white", (Item("star", "orange", 300, 100, 200),))
TWINS = Scene(640, 480, "black", (Item("star", "red", 300, 20, 100), Item("star", "blue", 280, 300, 150)))


@pytest.mark.parametrize("scene", SCENES)
def test_items_lie_inside_and_have_allowed_sizes(scene: Scene) -> None:
    for item in scene.items:
        assert max(scene.width, scene.height) / 9 - 1e-6 <= item.side
        assert item.side <= min(scene.width, scene.height) * 2 / 3 + 1e-6
        assert 0 <= item.left <= scene.width - item.side
        assert 0 <= item.top <= scene.height - item.side


@pytest.mark.parametrize("scene", [scene for scene in SCENES if len(scene.items) == 2])
def test_two_items_do_not_touch_and_are_clearly_beside_or_above_each_other(scene: Scene) -> None:
    first, second = scene.items
    dx = (second.center[0] - first.center[0]) / scene.width
    dy = (second.center[1] - first.center[1]) / scene.height
    assert is_clear_pair(first, second, scene.width, scene.height)
    assert dx >= 2 * abs(dy) if scene.relation == LEFT_OF else dy >= 2 * abs(dx)
    assert (
        second.left > first.left + first.side
        or second.top > first.top + first.side
        or first.top > second.top + second.side
        or first.left > second.left + second.side
    )


def test_colors_of_a_scene_differ() -> None:
    for scene in SCENES:
        colors = [scene.background, *(item.color for item in scene.items)]
        assert len(set(colors)) == len(colors)


def test_sampling_covers_the_language() -> None:
    assert {item.shape for scene in SCENES for item in scene.items} == set(SHAPES)
    assert {scene.background for scene in SCENES} == set(COLORS)
    assert {scene.relation for scene in SCENES} == {None, LEFT_OF, ABOVE}
    assert any(len({item.shape for item in scene.items}) < len(scene.items) for scene in SCENES)


def test_the_same_seed_samples_the_same_scene_and_spaces_differ() -> None:
    assert sample_scene(rng_for("test", 3), 640, 480) == sample_scene(rng_for("test", 3), 640, 480)
    assert sample_scene(rng_for("test", 3), 640, 480) != sample_scene(rng_for("train", 3), 640, 480)


def test_captions() -> None:
    assert caption(PAIR) == "a red circle to the left of a blue square on an orange background"
    assert caption(SINGLE) == "an orange star on a white background"
    assert caption(TWINS) == "a red star above a blue star on a black background"


def test_a_mirrored_scene_names_the_other_item_first() -> None:
    assert caption(PAIR.mirrored()) == "a blue square to the left of a red circle on an orange background"
    assert caption(TWINS.mirrored()) == caption(TWINS)
    assert PAIR.mirrored().mirrored() == PAIR


def test_mirroring_flips_the_picture() -> None:
    flipped = np.asarray(draw(PAIR.mirrored(), Style(supersample=4)), int)
    assert np.abs(flipped - np.asarray(draw(PAIR, Style(supersample=4)), int)[:, ::-1]).mean() < 0.5


def asked(scene: Scene) -> dict[str, str]:
    return {turn.question: turn.answer for turns in questions(scene).values() for turn in turns}


def test_questions_about_two_items_beside_each_other() -> None:
    assert asked(PAIR) == {
        "what color is the circle?": "red",
        "what color is the square?": "blue",
        "what shape is red?": "circle",
        "what shape is blue?": "square",
        "what color is the background?": "orange",
        "how many shapes are there?": "two",
        "is there a circle?": "yes",
        "is there a square?": "yes",
        "is there a triangle?": "no",
        "is there a star?": "no",
        "is there a diamond?": "no",
        "what shape is on the left?": "circle",
        "what shape is on the right?": "square",
        CAPTION_QUESTION: "a red circle to the left of a blue square on an orange background",
    }


def test_what_is_ambiguous_is_not_asked() -> None:
    assert not {"what color is the star?", "what shape is on the left?"} & set(asked(TWINS))
    assert asked(TWINS)["what shape is at the top?"] == "star"
    assert not any("on the" in question or "at the" in question for question in asked(SINGLE))


def test_it_means_the_item_of_the_turn_before() -> None:
    for index, scene in enumerate(SCENES):
        opener, follow_up = sample_follow_up(scene, random.Random(index))
        assert opener.about is not None
        assert follow_up.answer in (opener.about.color, opener.about.shape)


def test_conversations_open_plainly_and_go_on_with_follow_ups() -> None:
    rng = random.Random(0)
    talks = [sample_conversation(scene, rng, 4) for scene in SCENES]
    assert all(" it?" not in talk[0].question for talk in talks)
    assert sum(" it?" in turn.question for talk in talks for turn in talk) > len(talks) / 2
    for talk in talks:
        for before, turn in itertools.pairwise(talk):
            if turn.question == "what color is it?":
                assert before.about is not None
                assert turn == Turn("what color is it?", before.about.color, before.about)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("supersample", [1, 2, 4])
def test_a_drawn_item_fills_its_box_in_its_color(shape: str, supersample: int) -> None:
    scene = Scene(200, 150, "white", (Item(shape, "blue", 40, 30, 90),))
    pixels = np.asarray(draw(scene, Style(supersample=supersample)), int)
    assert pixels.shape == (150, 200, 3)
    assert tuple(pixels[0, 0]) == COLORS["white"]
    assert tuple(pixels[75, 85]) == COLORS["blue"]
    rows, columns = np.nonzero((pixels == COLORS["blue"]).all(axis=2))
    assert np.allclose([columns.min(), columns.max() + 1], [40, 130], atol=3)
    assert np.allclose([rows.min(), rows.max() + 1], [30, 120], atol=4)


def test_colors_may_be_a_little_off() -> None:
    pixels = np.asarray(draw(SINGLE, Style(color_shifts={"white": (-10, 0, 10)}, jpeg_quality=60)), int)
    assert np.allclose(pixels[:50, :50].mean(axis=(0, 1)), (240, 250, 255), atol=2)


def test_noise_is_thin_and_follows_its_seed() -> None:
    one, same, other = (np.asarray(draw(PAIR, Style(noise=4.0), noise_seed=seed), int) for seed in (1, 1, 2))
    assert 3 < one[:50, :50, 2].std() < 5
    assert (one == same).all()
    assert (one != other).any()
