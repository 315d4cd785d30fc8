"""Words that count as swapped, and how risk is read off confidence."""

import pytest

from benchmarks.run.grounding import risks, swapped_places
from training.retrieval.statements import Statement

CAPTION = Statement((("red", "circle"), ("blue", "square")), "above", "white")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Statement((("green", "circle"), ("blue", "square")), "above", "white"), ["green"]),
        (Statement((("red", "circle"), ("blue", "star")), "above", "white"), ["star"]),
        (Statement((("red", "circle"), ("blue", "square")), "above", "black"), ["black"]),
        (Statement((("red", "circle"), ("blue", "square")), "to the left of", "white"), ["to", "the", "left", "of"]),
        (Statement((("orange", "circle"), ("blue", "square")), "above", "white"), ["an", "orange"]),
    ],
)
def test_the_words_that_were_not_said_are_the_swapped_ones(changed: Statement, words: list[str]) -> None:
    said = changed.text.split()
    assert [said[place] for place in sorted(swapped_places(CAPTION, changed))] == words


def test_risk_is_the_share_of_wrong_ones_among_the_most_confident() -> None:
    told = risks((0.9, 0.8, 0.2, 0.1), (True, True, True, False))
    assert (told["0.5"], told["1.0"]) == (0.0, 0.25)
