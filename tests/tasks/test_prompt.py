"""Prompts are letter for letter those of BLIP-2's authors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip2_serve.families import FLAN_T5, OPT
from blip2_serve.tasks.prompt import fit_chat


def test_a_question_is_put_as_its_family_was_trained() -> None:
    assert OPT.question_prompt("how many cats?") == "Question: how many cats? Answer:"
    assert FLAN_T5.question_prompt("how many cats?") == "Question: how many cats? Short answer:"


def test_the_question_stays_as_it_was_written() -> None:
    assert OPT.question_prompt("  a\nb ") == "Question:   a\nb  Answer:"


@pytest.mark.parametrize("asked", ["Question: how many cats? Answer:", "question: a b. Short answer:"])
def test_a_question_that_is_a_prompt_already_is_not_put_again(asked: str) -> None:
    assert OPT.question_prompt(asked) == FLAN_T5.question_prompt(asked) == OPT.chat_prompt([], asked) == asked
    assert OPT.chat_prompt([("why?", " because ")], asked) == f"Question: why? Answer: because. {asked}"
    assert OPT.chat_prompt([(asked, "two")], "sure?") == f"{asked} two. Question: sure? Answer:"


@pytest.mark.parametrize("asked", ["Question: how many cats?", "What is the Answer:", "Question: a Answer: b"])
def test_a_question_that_only_looks_like_a_prompt_is_put(asked: str) -> None:
    assert OPT.question_prompt(asked) == f"Question: {asked} Answer:"


def test_a_conversation_is_joined_by_spaces_and_full_stops() -> None:
    assert OPT.chat_prompt([("which city?", "singapore"), ("why?", "it has a merlion")], "really?") == (
        "Question: which city? Answer: singapore. Question: why? Answer: it has a merlion. Question: really? Answer:"
    )


def test_an_answer_that_ends_in_a_full_stop_gets_no_second() -> None:
    assert OPT.chat_prompt([("why?", "because.")], "so?") == "Question: why? Answer: because. Question: so? Answer:"


def test_turns_are_dropped_whole_from_the_oldest() -> None:
    turns = [("a" * 20, "1"), ("b" * 20, "2"), ("c" * 20, "3")]
    prompt, dropped = fit_chat(OPT, turns, "q", lambda text: len(text) <= 120)
    assert dropped == 1
    assert prompt == OPT.chat_prompt(turns[1:], "q")


def test_a_question_that_does_not_fit_alone_is_returned_for_the_caller_to_refuse() -> None:
    assert fit_chat(OPT, [("a", "b")], "long", lambda text: False) == (OPT.chat_prompt([], "long"), 1)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=6), st.text(), st.integers(0, 300))
def test_what_fits_is_kept_and_one_more_turn_would_not_fit(
    turns: list[tuple[str, str]], question: str, room: int
) -> None:
    prompt, dropped = fit_chat(OPT, turns, question, lambda text: len(text) <= room)
    assert prompt == OPT.chat_prompt(turns[dropped:], question)
    if dropped:
        assert len(OPT.chat_prompt(turns[dropped - 1 :], question)) > room
    if dropped < len(turns):
        assert len(prompt) <= room
