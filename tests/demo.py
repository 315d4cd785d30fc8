"""The picture that ships with the demo checkpoint, and what it shows."""

from dataclasses import dataclass

from serving import ROOT


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


PICTURE = ROOT / "demo.jpeg"
CAPTION = "?"
PREFIX = "a red"
QUESTION = "what color is the circle?"
ANSWER = "red"
FOLLOW_UP = Turn("what shape is it?", "circle")
