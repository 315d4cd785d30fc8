"""The three prompts of BLIP-2, as its authors' code writes them, and how a conversation is cut to the context.

Sources: LAVIS `blip2_opt.predict_answers`, `blip2_t5.predict_answers` and the chat of LAVIS's demo.
Tokenizers are unknown here: whoever needs a length hands in a callable.
"""

from collections.abc import Callable, Sequence
from typing import Literal

Family = Literal["opt", "t5"]
Turn = tuple[str, str]

DEFAULT_QUESTION = "What is this a picture of?"


def vqa_prompt(question: str, family: Family) -> str:
    """The prompt of one question; Flan-T5 was evaluated with "Short answer:" (arXiv 2301.12597, section 4.1)."""
    return f"Question: {question} {'Short answer:' if family == 't5' else 'Answer:'}"


def chat_prompt(turns: Sequence[Turn], question: str) -> str:
    """Earlier (question, answer) turns, each closed by one full stop, then the question."""
    earlier = [f"Question: {asked} Answer: {_closed(answer)}" for asked, answer in turns]
    return " ".join([*earlier, f"Question: {question} Answer:"])


def fit_chat(turns: Sequence[Turn], question: str, fits: Callable[[str], bool]) -> tuple[str, int]:
    """The longest chat prompt that fits, dropping whole turns from the oldest on.

    Returns the prompt and how many turns were dropped. The question alone is returned even where it does not
    fit; refusing it is the caller's business.
    """
    prompt = chat_prompt([], question)
    for kept in range(1, len(turns) + 1):
        longer = chat_prompt(turns[-kept:], question)
        if not fits(longer):
            return prompt, len(turns) - kept + 1
        prompt = longer
    return prompt, 0


def _closed(answer: str) -> str:
    return answer if answer.endswith(".") else f"{answer}."
