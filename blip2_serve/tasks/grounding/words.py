"""Words of a text, and the tokens that spell each of them. No torch."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class SpelledText:
    """A text as a model would write it.

    Attributes:
        ids: its tokens, without special ones.
        words: what stands between spaces.
        word_of: for each token the place of its word.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    word_of: tuple[int, ...]

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Sum a number for each token over the tokens of each word."""
        sums = [0.0] * len(self.words)
        for word, number in zip(self.word_of, numbers, strict=True):
            sums[word] += number
        return sums


def spelled(text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> SpelledText:
    """Assign tokens to words; `offsets` are each token's first character in `text` and the one after its last.

    A token of spaces alone belongs to the word after it, or, at the end, to the last.
    """
    found = list(_WORD.finditer(text))
    ends = [match.end() for match in found]
    last = len(found) - 1
    places = [min(bisect_left(ends, stop), last) for _, stop in offsets]
    return SpelledText(tuple(ids), tuple(match.group() for match in found), tuple(places))
