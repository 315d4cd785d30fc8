"""Find stop strings in a text as it grows, one character at a time. No torch.

Each string keeps how much of its beginning the text ends with (Knuth, Morris and Pratt, SIAM Journal on Computing 6,
1977), so that a character costs the same however long strings and text are.
"""


class StopStrings:
    """Searches one growing text for several strings."""

    def __init__(self, strings: tuple[str, ...]) -> None:
        self._searches = [_Search(string) for string in strings if string]

    def feed(self, text: str) -> int | None:
        """Read what comes next; return how far before its end the earliest string begins that is whole now."""
        ends = [found for found in (search.feed(text) for search in self._searches) if found is not None]
        return max(ends, default=None)

    @property
    def num_held(self) -> int:
        """Characters at the end of the text that may be the beginning of a string."""
        return max((search.num_matched for search in self._searches), default=0)


class _Search:
    def __init__(self, string: str) -> None:
        self._string = string
        self._borders = _borders(string)
        self.num_matched = 0

    def feed(self, text: str) -> int | None:
        """See `StopStrings.feed`; what follows the string is not read."""
        string, borders, matched = self._string, self._borders, self.num_matched
        for place, character in enumerate(text):
            while matched and string[matched] != character:
                matched = borders[matched - 1]
            if string[matched] == character:
                matched += 1
                if matched == len(string):
                    self.num_matched = 0
                    return len(text) - place - 1 + matched
        self.num_matched = matched
        return None


def _borders(string: str) -> list[int]:
    """For each beginning of the string, the length of the longest shorter beginning that it ends with."""
    borders = [0] * len(string)
    length = 0
    for place in range(1, len(string)):
        while length and string[length] != string[place]:
            length = borders[length - 1]
        length += string[length] == string[place]
        borders[place] = length
    return borders
