"""Ids to text, a piece at a time: never half a character, never a part of a stop string. No torch."""

from collections.abc import Callable

from blip2_serve.engine.decoding.stop_strings import StopStrings

REPLACEMENT = "\ufffd"
# transformers' `clean_up_tokenization`, which a T5's tokenizer may ask for, pulls these together once they are whole.
PULLED_TOGETHER = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
_BEGINNINGS = frozenset(text[:length] for text in PULLED_TOGETHER for length in range(1, len(text)))
_LONGEST_BEGINNING = max(map(len, _BEGINNINGS))

Decode = Callable[[list[int]], str]


class TextStream:
    """The text of one row as it grows, stripped; `decode` turns a list of ids into text, `begins` stands before it.

    A piece is held back until what follows decides on it, or the row ends: white space at the end, half a character
    (byte-level tokens that end inside one decode to U+FFFD), and the beginning of a stop string or of what may be
    pulled together. The text is cut before the first stop string. Only generated text is searched (transformers'
    StopStringCriteria looks into the prompt's end as well). All pieces join to `text`.
    """

    def __init__(self, decode: Decode, stop: tuple[str, ...] = (), begins: str = "") -> None:
        self.stopped = False
        self._growing = GrowingText(decode)
        self._stop = stop
        self._search = StopStrings(stop)
        self._searched = ""
        self._begins = begins
        self._generated = ""
        self._num_shown = 0

    @property
    def text(self) -> str:
        """The whole stripped text up to now, with what is still held back."""
        return (self._begins + self._generated).strip()

    def push(self, token_id: int, *, is_end: bool = False, is_last: bool = False) -> str:
        """Add one more token (an end token adds no text) and return the text that is safe to show now."""
        if not is_end:
            self._generated = self._growing.push(token_id)
        settled = self._generated if is_last else self._generated.rstrip(REPLACEMENT)
        if self._stop:
            self._cut_at_a_stop_string(settled)
        if is_last or self.stopped:
            return self._show(self._generated)
        return self._show(settled[: len(settled) - max(self._search.num_held, _may_be_pulled(settled))])

    def _cut_at_a_stop_string(self, settled: str) -> None:
        if not settled.startswith(self._searched):  # what was written has changed with what follows
            self._search, self._searched = StopStrings(self._stop), ""
        found = self._search.feed(settled[len(self._searched) :])
        self._searched = settled
        if found is not None:
            self.stopped = True
            self._generated = settled[: len(settled) - found]

    def _show(self, safe: str) -> str:
        piece = (self._begins + safe).strip()[self._num_shown :]
        self._num_shown += len(piece)
        return piece


class GrowingText:
    """The text that `decode` makes of all ids up to now, decoding only the last ones.

    Text before the last few tokens stays as it is: what follows may complete a character, or be pulled together with
    the few before it, but reaches no further back.
    """

    _NUM_BEFORE = 8
    _NUM_DECODED = 24

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._head = ""
        self._ids: list[int] = []

    def push(self, token_id: int) -> str:
        """Add a token; return the whole text."""
        self._ids.append(token_id)
        text = self._head + self._decode(self._ids)
        if len(self._ids) >= self._NUM_DECODED:
            self._drop_the_first(text)
        return text

    def _drop_the_first(self, text: str) -> None:
        last = self._ids[-self._NUM_BEFORE :]
        tail = self._decode(last)
        # Unless the cut is inside a character, or these ids read otherwise without those before them.
        if tail and text.endswith(tail) and not tail.startswith(REPLACEMENT):
            self._head, self._ids = text[: len(text) - len(tail)], last


def _may_be_pulled(text: str) -> int:
    """Count the characters at the end of `text` that may be pulled together with what follows."""
    for length in range(min(_LONGEST_BEGINNING, len(text)), 0, -1):
        if text[-length:] in _BEGINNINGS:
            return length
    return 0
