"""Guards: an answer that loops or is empty is made again; a fine one is left alone."""

import asyncio
from dataclasses import replace

from blip2_serve.engine.messages import Finished, FinishedRow, Timings
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.guards import guarded, loops

LOOP, FINE, NOTHING = (1, 2, 3) * 3, (4, 5, 6), (9,)
OPTIONS = DecodingOptions(num_beams=1)


def finished(*answers: tuple[int, ...]) -> Finished:
    rows = tuple(FinishedRow(ids, (-1.0,) * len(ids), -1.0, None, "stop") for ids in answers)
    return Finished(1, rows, Timings(1.0, 2.0, 3.0))


def guard(
    *runs: Finished, options: DecodingOptions = OPTIONS
) -> tuple[Finished, tuple[str, ...], list[DecodingOptions]]:
    """Guard a model that gives `runs` in turn; returns the answer, the guards, and the options it was asked with."""
    asked: list[DecodingOptions] = []

    async def generate(options: DecodingOptions) -> Finished:
        asked.append(options)
        return runs[len(asked) - 1]

    answer, guards = asyncio.run(guarded(generate, lambda row: row.ids == NOTHING, options))
    return answer, guards, asked


def test_only_three_times_the_same_three_tokens_are_a_loop() -> None:
    assert loops([1, 2, 3] * 3)
    assert loops([7] * 5)
    assert not loops([1, 2, 3] * 2 + [1, 2, 4])
    assert not loops([])


def test_a_fine_answer_is_asked_for_once() -> None:
    fine = finished(FINE)
    assert guard(fine) == (fine, (), [OPTIONS])


def test_an_answer_that_loops_is_made_again_without_repeated_ngrams() -> None:
    answer, guards, asked = guard(finished(LOOP), finished(FINE))
    assert ([row.ids for row in answer.rows], guards) == ([FINE], ("no_repeat_ngram_size",))
    assert asked == [OPTIONS, replace(OPTIONS, no_repeat_ngram_size=3)]
    assert answer.timings == Timings(2.0, 4.0, 6.0)


def test_of_several_answers_only_the_faulty_are_replaced() -> None:
    answer, guards, asked = guard(finished(FINE, NOTHING, LOOP), finished((7,), (8,), (10,)))
    assert [row.ids for row in answer.rows] == [FINE, (8,), (10,)]
    assert guards == ("min_new_tokens", "no_repeat_ngram_size")
    assert len(asked) == 2


def test_an_empty_answer_that_was_to_have_tokens_stays() -> None:
    assert guard(finished(NOTHING), options=replace(OPTIONS, min_new_tokens=1))[1] == ()
