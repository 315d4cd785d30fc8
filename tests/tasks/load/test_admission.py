"""A request is admitted if its work can be done soon; whoever has much waiting leaves room for others."""

import pytest

from blip2_serve.errors import Busy
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.load.admission import MIN_REQUESTS, Admission, work_of

RATE = 100


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(clock: Clock, max_queue: int = 1000, max_s: float = 10.0) -> Admission:
    """Make an admission that has seen RATE units of work a second."""
    admission = Admission(max_queue, max_s, lambda: 0, clock)
    for _ in range(20):
        with admission.admitted("earlier", RATE):
            clock.now += 1.0
    return admission


def enter_until_busy(admission: Admission, client: str, work: int) -> tuple[int, Busy]:
    for count in range(10_000):
        try:
            admission.enter(client, work)
        except Busy as busy:
            return count, busy
    raise AssertionError("never busy")


def test_the_queue_holds_so_many_seconds_of_measured_work_but_for_what_it_leaves_to_others() -> None:
    admission = measured(Clock())
    num_taken, busy = enter_until_busy(admission, "greedy", 10)
    assert num_taken * 10 == pytest.approx(RATE * 10 * 8 / 9, rel=0.02)
    assert 1 <= busy.retry_after_s <= 10
    assert enter_until_busy(admission, "other", 10)[0] > 5


def test_before_anything_is_measured_requests_are_only_counted() -> None:
    admission = Admission(1000, 10.0, lambda: 0, Clock())
    assert enter_until_busy(admission, "greedy", 10**9)[0] == pytest.approx(889, abs=1)


def test_a_few_requests_are_always_taken_however_much_they_ask() -> None:
    assert enter_until_busy(measured(Clock()), "one", 10_000)[0] == MIN_REQUESTS


def test_requests_that_run_do_not_count_as_waiting() -> None:
    num_running = [0]
    admission = Admission(2, 10.0, lambda: num_running[0], Clock())
    assert enter_until_busy(admission, "one", 1)[0] == 2
    num_running[0] = 2
    assert enter_until_busy(admission, "one", 1)[0] == 2


@pytest.mark.parametrize("stays_s", [0.1, 1.0])
def test_whoever_gives_up_leaves_the_measured_rate_as_it_was(stays_s: float) -> None:
    clock = Clock()
    admission = measured(clock)
    for _ in range(int(60 / stays_s)):
        place = admission.enter("vanishing", 100 * RATE)
        clock.now += stays_s
        place.leave()
    before, _ = enter_until_busy(measured(Clock()), "one", 10)
    assert enter_until_busy(admission, "one", 10)[0] == pytest.approx(before, rel=0.1)


def test_what_one_client_has_keeps_no_other_from_its_equal_part() -> None:
    admission = measured(Clock())
    enter_until_busy(admission, "greedy", 10)
    assert enter_until_busy(admission, "other", 10)[0] * 10 == pytest.approx(RATE * 10 / 2, rel=0.02)
    assert enter_until_busy(admission, "third", 10)[0] * 10 == pytest.approx(RATE * 10 / 3, rel=0.02)


def test_leaving_twice_gives_back_once() -> None:
    admission = Admission(10, 10.0, lambda: 0, Clock())
    place = admission.enter("one", 5)
    admission.enter("one", 5)
    place.leave()
    place.leave()
    assert (admission._work, admission._num_requests) == ({"one": 5}, {"one": 1})


def test_work_grows_with_rows_tokens_and_a_picture() -> None:
    five_beams = work_of(DecodingOptions(num_beams=5, max_new_tokens=30), has_picture=True)
    greedy = work_of(DecodingOptions(num_beams=1, max_new_tokens=30), has_picture=True)
    assert five_beams - greedy == 4 * 30
    assert greedy > work_of(DecodingOptions(num_beams=1, max_new_tokens=30), has_picture=False)


def test_after_a_refusal_a_client_is_not_read_until_what_was_refused_fits_or_a_second_has_passed() -> None:
    clock = Clock()
    admission = measured(clock)
    places = [admission.enter("one", 10) for _ in range(56)]
    admission.check_unread("one")
    with pytest.raises(Busy):
        admission.enter("one", 500)
    with pytest.raises(Busy):
        admission.check_unread("one")
    with pytest.raises(Busy):
        admission.enter("one", 900)
    for place in places[:10]:
        place.leave()
    admission.check_unread("one")
    for _ in range(10):
        admission.enter("one", 10)
    clock.now += 1.0
    admission.check_unread("one")


def test_what_one_client_is_refused_keeps_no_other_out() -> None:
    admission = measured(Clock())
    for client in ("one", "other"):
        for _ in range(30):
            admission.enter(client, 10)
    with pytest.raises(Busy):
        admission.enter("one", 10**6)
    admission.check_unread("other")
    with pytest.raises(Busy):
        admission.check_unread("one")
    with pytest.raises(Busy):
        admission.enter("one", 450)
    admission.enter("one", 10)
