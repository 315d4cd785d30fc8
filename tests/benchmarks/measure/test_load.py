"""Closed and open loops against a server whose speed is known, and the arithmetic of what they measured."""

import itertools
import os
from collections.abc import Callable

import pytest

from benchmarks.measure.load import Answered, Driven, Target, closed_loop, open_loop, summary
from benchmarks.measure.measured import Measured, median
from benchmarks.measure.posts import Post
from benchmarks.measure.processes import Processes
from benchmarks.measure.workloads import Call
from support.timed_server import serve_fake

CALL = Call("caption", b"picture", 20)


def target(url: str, path: str = "/", *, streams: bool = False) -> Target:
    return Target("fake", url, Processes(os.getpid()), lambda call: Post(path, "text/plain", call.picture, streams))


def answered(due: float, done: float, call: Call = CALL) -> Answered:
    return Answered(call, due, done, done)


def test_a_closed_loop_of_several_clients_keeps_them_all_busy() -> None:
    with serve_fake(0.05, at_once=4) as url:
        measured = closed_loop(target(url), itertools.repeat(CALL), 4, warm_up_s=0.1, measure_s=0.8)
    assert 30 < measured.requests_per_s <= 81
    assert measured.p50_s is not None
    assert 0.05 <= measured.p50_s < 0.12


def test_latency_in_a_closed_loop_is_the_time_in_the_full_queue() -> None:
    # Measuring starts when everybody has been answered: what comes first is answered sooner than what comes later.
    with serve_fake(0.05, at_once=1) as url:
        measured = closed_loop(target(url), itertools.repeat(CALL), 8, warm_up_s=0, measure_s=0.5)
    assert 10 < measured.requests_per_s <= 20.5
    assert measured.p50_s is not None
    assert 0.95 * 8 * 0.05 <= measured.p50_s < 0.8


def test_an_open_loop_offers_its_rate_and_counts_from_when_calls_are_due() -> None:
    # Twice what the server can do: the queue grows, and the last wait for about as long as the loop lasted.
    with serve_fake(0.05, at_once=1) as url:
        measured = open_loop(target(url), itertools.repeat(CALL), 40, seed="s", warm_up_s=0, measure_s=1)
    assert measured.requests_per_s <= 21
    assert measured.p99_s is not None
    assert 0.4 < measured.p99_s < 2
    assert measured.p50_s is not None
    assert measured.p50_s < 0.8 * measured.p99_s


def test_the_first_token_of_a_stream_is_the_first_that_has_text() -> None:
    with serve_fake(0.1, at_once=1) as url:
        streamed = target(url, "/stream", streams=True)
        measured = closed_loop(streamed, itertools.repeat(CALL), 1, warm_up_s=0, measure_s=0.5)
    assert measured.first_token_p50_s is not None
    assert measured.p50_s is not None
    assert 0.2 <= measured.first_token_p50_s < 0.3
    assert measured.p50_s - measured.first_token_p50_s == pytest.approx(0.2, abs=0.08)


def test_a_server_that_refuses_ends_the_run() -> None:
    with serve_fake(0.01, at_once=1) as url, pytest.raises(RuntimeError, match="fake answered 404"):
        closed_loop(target(url, "/nothing"), itertools.repeat(CALL), 1, warm_up_s=0, measure_s=1)


def test_the_rate_of_a_server_that_answers_in_bursts_does_not_depend_on_when_one_looks() -> None:
    answers = [answered(burst - 1, burst + index / 1000) for burst in range(20) for index in range(16)]
    rates = [
        summary(Driven(answers, answers, 2.1 + shift, 9.1 + shift), 1, 1).requests_per_s for shift in (0, 0.3, 0.8)
    ]
    assert rates == pytest.approx([16, 16, 16])


def test_a_batch_may_take_longer_than_is_measured() -> None:
    answers = [answered(burst, 20 + burst + index / 1000) for burst in (0, 20, 40) for index in range(32)]
    assert summary(Driven(answers, answers, 20.1, 24.1), 1, 1).requests_per_s == pytest.approx(1.6)


def test_short_requests_and_later_turns_are_told_apart() -> None:
    calls = [Call("vqa", b"", 10, "q"), Call("caption", b"", 11), Call("chat", b"", 40, "q", (("q", "a"),))]
    answers = [answered(1, 1 + latency, call) for latency, call in enumerate(calls, start=1)]
    measured = summary(Driven([answered(0, 1), *answers], answers, 1, 5), 8, 1)
    assert (measured.short_p50_s, measured.p50_s, measured.later_p50_s) == (1, 2, 3)
    assert measured.cpu_s_per_request == 2


def test_where_nothing_counts_the_last_answer_does() -> None:
    late = [answered(0, 1), answered(2, 9)]
    assert summary(Driven(late, [], 3, 4), 1, 1).p50_s == 7


@pytest.mark.parametrize(("name", "expected"), [("requests_per_s", 2), ("p50_s", 15), ("later_p50_s", None)])
def test_the_median_is_taken_figure_by_figure(name: str, expected: float | None) -> None:
    runs = [Measured(1, p50_s=10), Measured(2), Measured(3, p50_s=20)]
    read: Callable[[Measured], float | None] = lambda measured: getattr(measured, name)  # noqa: E731
    assert read(median(runs)) == expected
