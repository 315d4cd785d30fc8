"""Prompts are letter for letter those of BLIP-2's authors."""

from hypothesis import given
from hypothesis import strategies as st

from blip2_serve.prompts import chat_prompt, fit_chat, vqa_prompt


def test_a_question_is_put_as_its_family_was_trained() -> None:
    assert vqa_prompt("how many cats?", "opt") == "Question: how many cats? Answer:"
    assert vqa_prompt("how many cats?", "t5") == "Question: how many cats? Short answer:"


def test_the_question_stays_as_it_was_written() -> None:
    assert vqa_prompt("  a\nb ", "opt") == "Question:   a\nb  Answer:"


def test_a_conversation_is_joined_by_spaces_and_full_stops() -> None:
    assert chat_prompt([("which city?", "singapore"), ("why?", "it has a merlion")], "really?") == (
        "Question: which city? Answer: singapore. Question: why? Answer: it has a merlion. Question: really? Answer:"
    )


def test_an_answer_that_ends_in_a_full_stop_gets_no_second() -> None:
    assert chat_prompt([("why?", "because.")], "so?") == "Question: why? Answer: because. Question: so? Answer:"


def test_turns_are_dropped_whole_from_the_oldest() -> None:
    turns = [("a" * 20, "1"), ("b" * 20, "2"), ("c" * 20, "3")]
    prompt, dropped = fit_chat(turns, "q", lambda text: len(text) <= 120)
    assert dropped == 1
    assert prompt == chat_prompt(turns[1:], "q")


def test_a_question_that_does_not_fit_alone_is_returned_for_the_caller_to_refuse() -> None:
    assert fit_chat([("a", "b")], "long", lambda text: False) == (chat_prompt([], "long"), 1)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=6), st.text(), st.integers(0, 300))
def test_what_fits_is_kept_and_one_more_turn_would_not_fit(
    turns: list[tuple[str, str]], question: str, room: int
) -> None:
    prompt, dropped = fit_chat(turns, question, lambda text: len(text) <= room)
    assert prompt == chat_prompt(turns[dropped:], question)
    if dropped:
        assert len(chat_prompt(turns[dropped - 1 :], question)) > room
    if dropped < len(turns):
        assert len(prompt) <= room
