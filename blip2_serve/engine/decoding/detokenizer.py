"""Ids to text, a piece at a time: never half a character, never a part of a stop string. No torch."""

from collections.abc import Callable

REPLACEMENT = "\ufffd"
# transformers' `clean_up_tokenization`, which a T5's tokenizer may ask for, pulls these together once they are whole.
PULLED_TOGETHER = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class TextStream:
    """The text of one row as it grows, stripped; `decode` turns a list of ids into text, `begins` stands before it.

    A piece is held back until what follows decides on it, or the row ends: white space at the end, half a character
    (byte-level tokens that end inside one decode to U+FFFD), and the beginning of a stop string or of what may be
    pulled together. The text is cut before the first stop string. Only generated text is searched (transformers'
    StopStringCriteria looks into the prompt's end as well). All pieces join to `text`.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: tuple[str, ...] = (), begins: str = "") -> None:
        self.stopped = False
        self._decode = decode
        self._stop = stop
        self._begins = begins
        self._ids: list[int] = []
        self._generated = ""
        self._num_shown = 0

    @property
    def text(self) -> str:
        """The whole stripped text up to now, with what is still held back."""
        return (self._begins + self._generated).strip()

    def push(self, token_id: int, *, is_end: bool = False, is_last: bool = False) -> str:
        """Add one more token (an end token adds no text) and return the text that is safe to show now."""
        if not is_end:
            self._ids.append(token_id)
            self._generated = self._decode(self._ids)
        cut = find_stop(self._generated, self._stop)
        if cut is not None:
            self.stopped = True
            self._generated = self._generated[:cut]
        safe = self._generated
        if not (is_last or self.stopped):
            safe = safe.rstrip(REPLACEMENT)
            safe = safe[: len(safe) - held_back(safe, (*self._stop, *PULLED_TOGETHER))]
        piece = (self._begins + safe).strip()[self._num_shown :]
        self._num_shown += len(piece)
        return piece


def find_stop(text: str, stop: tuple[str, ...]) -> int | None:
    """Find where the earliest stop string begins in `text`; None if there is none."""
    found = [position for position in (text.find(string) for string in stop) if position >= 0]
    return min(found, default=None)


def held_back(text: str, stop: tuple[str, ...]) -> int:
    """Count the characters at the end of `text` that may be the beginning of one of `stop`."""
    longest = max((len(string) for string in stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in stop):
            return length
    return 0
