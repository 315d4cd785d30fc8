"""Find the continuation of a prompt in what the model's answer says."""

from dataclasses import dataclass
from typing import Self

from blip2_serve.families import Family


@dataclass(frozen=True, slots=True)
class Continuation:
    """The place of a continuation in an answer, whose text is stripped and may begin with the prompt.

    Attributes:
        num_cut: characters of the answer before the continuation.
        before: what is said before it, where the prompt is echoed.
        is_stripped: False if it keeps the space between it and the prompt.
    """

    num_cut: int = 0
    before: str = ""
    is_stripped: bool = True

    @classmethod
    def of(cls, prompt: str, family: Family, *, echo: bool) -> Self:
        """Say where a model of `family` continues `prompt`: a decoder-only one repeats it, another begins anew."""
        repeated = family.echoed_prefix(prompt).lstrip()
        joined = bool(repeated) or not prompt
        return cls(len(repeated), (prompt if joined else f"{prompt} ") * echo, not repeated)

    def whole(self, answer: str) -> str:
        """Return what is said for a whole answer."""
        return self.before + answer[self.num_cut :]


class GrowingContinuation:
    """The continuation in an answer that comes in pieces."""

    def __init__(self, continuation: Continuation) -> None:
        self._num_to_cut = continuation.num_cut

    def cut(self, piece: str) -> str:
        """Return what of the next piece belongs to the continuation."""
        shown = piece[self._num_to_cut :]
        self._num_to_cut -= min(self._num_to_cut, len(piece))
        return shown
