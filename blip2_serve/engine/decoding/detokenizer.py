"""Ids to text, a piece at a time: never half a character, never a part of a stop string. No torch."""

from collections.abc import Callable

REPLACEMENT = "\ufffd"
# What transformers' `clean_up_tokenization`, which a T5's tokenizer may ask for, pulls together once it is whole.
PULLED_TOGETHER = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class TextStream:
    """The text of one row as it grows; `decode` turns a list of ids into text.

    Byte-level tokens may end inside a character, which decodes to U+FFFD: such an end is held back until the
    character is whole or the row ends; so is the beginning of what may be pulled together. With stop strings, `text`
    is cut before the first one. Only generated text is searched (transformers' StopStringCriteria looks into the
    prompt's end as well).
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: tuple[str, ...] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._decode = decode
        self._stop = stop
        self._ids: list[int] = []
        self._num_sent = 0

    def push(self, token_id: int, *, is_end: bool = False, is_last: bool = False) -> str:
        """Takes one more token (an end token adds no text) and returns the text that is safe to show now."""
        if not is_end:
            self._ids.append(token_id)
            self.text = self._decode(self._ids)
        cut = find_stop(self.text, self._stop)
        if cut is not None:
            self.stopped = True
            self.text = self.text[:cut]
        return self._release(len(self.text) if is_last or self.stopped else self._num_safe())

    def _num_safe(self) -> int:
        text = self.text.rstrip(REPLACEMENT)
        return len(text) - held_back(text, (*self._stop, *PULLED_TOGETHER))

    def _release(self, end: int) -> str:
        piece = self.text[self._num_sent : end]
        self._num_sent = max(self._num_sent, end)
        return piece


def find_stop(text: str, stop: tuple[str, ...]) -> int | None:
    """Where the earliest stop string begins in `text`; None if there is none."""
    found = [position for position in (text.find(string) for string in stop) if position >= 0]
    return min(found, default=None)


def held_back(text: str, stop: tuple[str, ...]) -> int:
    """How many characters at the end of `text` may turn out to be the beginning of one of `stop`."""
    longest = max((len(string) for string in stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in stop):
            return length
    return 0
