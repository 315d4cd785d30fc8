"""Tokens are assigned to the words that they spell."""

import pytest

from blip2_serve.tasks.grounding.words import spelled


@pytest.mark.parametrize(
    ("text", "offsets", "word_of"),
    [
        ("a red circle", [(0, 1), (2, 5), (6, 12)], (0, 1, 2)),
        ("a red circle", [(0, 1), (1, 5), (5, 8), (8, 12)], (0, 1, 2, 2)),  # a space belongs to the token after it
        (" a red", [(0, 1), (1, 2), (2, 3), (3, 6)], (0, 0, 1, 1)),  # a token of a space alone, to the next word
        ("a b ", [(0, 1), (1, 3), (3, 4)], (0, 1, 1)),
    ],
)
def test_every_token_has_its_word(text: str, offsets: list[tuple[int, int]], word_of: tuple[int, ...]) -> None:
    assert spelled(text, range(len(offsets)), offsets).word_of == word_of


def test_numbers_are_summed_over_a_word() -> None:
    text = spelled("a red", [7, 8, 9], [(0, 1), (1, 3), (3, 5)])
    assert text.words == ("a", "red")
    assert text.sums([1.0, 2.0, 3.0]) == [1.0, 5.0]
