"""Retrieval requests in line: clients in turn, micro-batches of a bounded number of texts."""

from collections.abc import Callable

import pytest

from blip2_serve.engine.messages import RetrievalRequest
from blip2_serve.engine.retrieval.line import RetrievalLine
from blip2_serve.engine.retrieval.sequence import RetrievalState
from blip2_serve.engine.sequence import Stage
from blip2_serve.errors import InvalidField


def request(number: int, client: str = "a", num_texts: int = 4) -> RetrievalState:
    return RetrievalState(RetrievalRequest(number, texts=((1, 2),) * num_texts, client=client))


def numbers(batch: list[RetrievalState]) -> list[int]:
    return [sequence.request.request_id for sequence in batch]


@pytest.fixture
def line_of() -> Callable[..., RetrievalLine]:
    def build(*sequences: RetrievalState, max_texts: int = 10) -> RetrievalLine:
        line = RetrievalLine(max_texts)
        for sequence in sequences:
            line.add(sequence)
        return line

    return build


def test_a_micro_batch_has_as_many_texts_as_it_may(line_of: Callable[..., RetrievalLine]) -> None:
    line = line_of(*(request(number) for number in range(5)))
    assert [numbers(line.next_batch()) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_a_request_with_more_texts_than_that_goes_alone(line_of: Callable[..., RetrievalLine]) -> None:
    line = line_of(request(0, num_texts=16), request(1))
    assert numbers(line.next_batch()) == [0]
    assert numbers(line.next_batch()) == [1]


def test_a_client_with_many_requests_leaves_the_next_batch_to_others(line_of: Callable[..., RetrievalLine]) -> None:
    line = line_of(*(request(number) for number in range(8)), request(8, "b"), max_texts=100)
    assert sorted(numbers(line.next_batch())) == [0, 8]
    line.add(request(9, "b"))
    assert sorted(numbers(line.next_batch())) == [1, 9]


def test_a_request_that_leaves_is_forgotten(line_of: Callable[..., RetrievalLine]) -> None:
    gone, kept = request(0), request(1)
    line = line_of(gone, kept)
    line.remove(gone)
    assert line.next_batch() == [kept]
    assert kept.stage is Stage.RUNNING


@pytest.mark.parametrize("wrong", [{}, {"texts": ((1,),), "compares": True}])
def test_a_request_for_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidField):
        RetrievalRequest(0, **wrong)  # type: ignore[arg-type]


def test_long_texts_come_in_smaller_batches(line_of: Callable[..., RetrievalLine]) -> None:
    long = RetrievalState(RetrievalRequest(0, texts=((1,) * 512,), client="a"))
    line = line_of(long, *(request(number) for number in range(1, 4)))
    assert [numbers(line.next_batch()) for _ in range(3)] == [[0], [1, 2], [3]]
