"""Workloads: each workload is an endless stream of calls, the same for the same `series`.

W1: captions of exactly 20 tokens, greedy. W2: captions, answers and chats of 3 to 60 tokens, greedy. W3: conversations
of six turns about one picture. W4: W1 with five beams. Every picture is another one, but within a conversation; no two
series share any.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from benchmarks.measure.pictures import uploads
from blip2_serve.families import Turn

SHORT_TOKENS = 10
NUM_TURNS = 6
QUESTIONS = ("what color is the circle?", "what shape is red?", "how many shapes are there?", "is there a star?")
CHAT_ANSWER = "a red circle"


@dataclass(frozen=True)
class Call:
    """One request: `turns` are a chat's earlier ones, `num_tokens` is exactly how many are to be written."""

    task: str
    picture: bytes
    num_tokens: int
    question: str = ""
    turns: tuple[Turn, ...] = ()
    num_beams: int = 1

    @property
    def is_short(self) -> bool:
        """At most SHORT_TOKENS tokens."""
        return self.num_tokens <= SHORT_TOKENS

    @property
    def is_later_turn(self) -> bool:
        """Of a conversation that has earlier ones."""
        return bool(self.turns)


def captions(series: str, num_beams: int = 1) -> Iterator[Call]:
    """W1, and W4 with five beams."""
    for picture in uploads(series):
        yield Call("caption", picture, 20, num_beams=num_beams)


def mixed(series: str) -> Iterator[Call]:
    """W2: a third each of answers (3 to 10 tokens), captions (10 to 30) and chats (20 to 60)."""
    rng = random.Random(series)
    for picture in uploads(series):
        task = rng.choice(("vqa", "caption", "chat"))
        question = "" if task == "caption" else rng.choice(QUESTIONS)
        turns = tuple((rng.choice(QUESTIONS), CHAT_ANSWER) for _ in range(rng.randint(1, 4)))
        shortest, longest = {"vqa": (3, 10), "caption": (10, 30), "chat": (20, 60)}[task]
        num_tokens = rng.randint(shortest, longest)
        yield Call(task, picture, num_tokens, question, turns if task == "chat" else ())


def conversations(series: str) -> Iterator[Call]:
    """W3: six turns in a row about each picture, of 10 tokens each."""
    for picture in uploads(series):
        turns: tuple[Turn, ...] = ()
        for question in islice((*QUESTIONS, *QUESTIONS), NUM_TURNS):
            yield Call("chat", picture, 10, question, turns)
            turns += ((question, CHAT_ANSWER),)


def beams(series: str) -> Iterator[Call]:
    """W4."""
    return captions(series, num_beams=5)


WORKLOADS: dict[str, Callable[[str], Iterator[Call]]] = {"W1": captions, "W2": mixed, "W3": conversations, "W4": beams}
