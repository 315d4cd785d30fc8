"""Rows, cells and images given out in plain Python, in milliseconds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip2_serve.engine.cache.rows import BlockShape, RowBooks, shape_for
from blip2_serve.engine.scheduler import MAX_LOOKS, MAX_OVERTAKES, Scheduler
from blip2_serve.engine.sequence import Prefix, SequenceState
from blip2_serve.engine.shares import PATIENCE_S, Shares
from blip2_serve.engine.vision.batcher import VisionBatcher
from blip2_serve.options import DecodingOptions
from support.engine.wide_models import Case

SMALL = BlockShape(16, 1, 32, beams=False)
LARGE = BlockShape(512, 16, 256, beams=True)


def sequence(num_rows: int = 1, *, num_prefix: int = 20, image_seed: int = 0, client: str = "one") -> SequenceState:
    request = Case(image_seed, (2,), DecodingOptions(num_beams=num_rows)).request(0, client=client)
    shape = shape_for(num_prefix, num_rows, 30, beams=num_rows > 1)
    return SequenceState(request, Prefix(num_prefix, 2, (2,)), shape, arrived=0.0)


def test_a_request_gets_the_smallest_block_that_holds_it() -> None:
    assert shape_for(33, 5, 30, beams=True) == BlockShape(48, 5, 32, beams=True)
    assert shape_for(32, 5, 32, beams=True).cells == 32 + 5 * 32
    assert shape_for(512, 16, 256, beams=True) == LARGE
    with pytest.raises(ValueError, match="513"):
        shape_for(513, 1, 1, beams=False)


def test_what_never_fits_is_an_error_and_what_does_not_fit_now_is_false() -> None:
    books = RowBooks(max_rows=2, max_cells=SMALL.cells * 2)
    with pytest.raises(ValueError, match="16 rows"):
        books.check_fits(LARGE)
    assert [books.admit(SMALL) for _ in range(3)] == [True, True, False]
    books.retire(SMALL)
    assert books.admit(SMALL)


def test_spare_slots_of_one_shape_give_way_to_another() -> None:
    other = BlockShape(32, 1, 32, beams=False)
    books = RowBooks(max_rows=100, max_cells=SMALL.cells * 8)
    for _ in range(8):
        assert books.admit(SMALL)
    assert not books.admit(other)
    for _ in range(7):
        books.retire(SMALL)
    assert books.admit(other)
    assert books.pools[SMALL].slots == 1
    books.check()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=200))
@settings(deadline=None, derandomize=True)
def test_free_and_owned_are_always_all(moves: list[tuple[bool, int]]) -> None:
    shapes = [shape_for(prefix, num_rows, 30, beams=False) for prefix in (16, 100) for num_rows in (1, 3, 8)]
    books = RowBooks(max_rows=20, max_cells=2000)
    live: list[BlockShape] = []
    for wants_row, pick in moves:
        if wants_row and books.admit(shapes[pick]):
            live.append(shapes[pick])
        elif live:
            books.retire(live.pop(pick % len(live)))
        books.check()
        assert books.live_rows == sum(shape.num_rows for shape in live) <= 20
        assert 0 <= books.owned_cells <= 2000
    for shape in live:
        books.retire(shape)
    books.trim()
    assert (books.live_rows, books.owned_cells) == (0, 0)


def test_books_that_do_not_balance_are_noticed() -> None:
    books = RowBooks(4, 1000)
    books.admit(SMALL)
    books.live_rows -= 1
    with pytest.raises(RuntimeError, match="balance"):
        books.check()


def test_first_come_first_served() -> None:
    scheduler = Scheduler(RowBooks(2, 10_000), max_prefill_tokens=1000, fair_rows=16)
    waiting = [sequence() for _ in range(4)]
    for each in waiting:
        scheduler.add(each)
    assert scheduler.admit() == waiting[:2]
    assert scheduler.admit() == []


def test_a_sixteen_row_request_is_overtaken_only_so_often() -> None:
    books = RowBooks(16, 1_000_000)
    scheduler = Scheduler(books, max_prefill_tokens=10_000, fair_rows=16)
    running = [sequence()]
    scheduler.add(running[0])
    assert scheduler.admit() == running
    large = sequence(16)
    scheduler.add(large)
    num_overtakes = 0
    for _ in range(100):
        scheduler.add(sequence())
        admitted = scheduler.admit()
        if large in admitted:
            break
        num_overtakes += len(admitted)
        running += admitted
        books.retire(running.pop(0).shape)
    else:
        raise AssertionError("the large request starved")
    assert num_overtakes == MAX_OVERTAKES


@pytest.mark.parametrize(("num_between", "num_started"), [(MAX_LOOKS - 2, 1), (MAX_LOOKS, 0)])
def test_only_so_many_behind_one_that_does_not_fit_are_looked_at(num_between: int, num_started: int) -> None:
    books = RowBooks(3, 100_000)
    scheduler = Scheduler(books, max_prefill_tokens=10_000, fair_rows=16)
    assert books.admit(shape_for(20, 2, 30, beams=True))
    for _ in range(num_between + 1):
        scheduler.add(sequence(2))
    scheduler.add(sequence(1))
    assert len(scheduler.admit()) == num_started


def test_prefills_of_one_step_are_bounded_but_never_zero() -> None:
    scheduler = Scheduler(RowBooks(100, 1_000_000), max_prefill_tokens=100, fair_rows=16)
    for length in (400, 60, 60, 30):
        scheduler.add(sequence(num_prefix=length))
    assert [len(scheduler.admit()) for _ in range(4)] == [1, 1, 2, 0]


def test_a_sequence_can_leave_the_queue() -> None:
    scheduler = Scheduler(RowBooks(1, 10_000), max_prefill_tokens=100, fair_rows=16)
    first, second = sequence(), sequence()
    scheduler.add(first)
    scheduler.add(second)
    scheduler.remove(first)
    with pytest.raises(ValueError, match="deque"):
        scheduler.remove(first)
    assert scheduler.admit() == [second]


def test_equal_images_wait_together_and_leave_when_nobody_wants_them() -> None:
    vision = VisionBatcher(max_images=2)
    a, b, same, other = (sequence(image_seed=seed) for seed in (0, 1, 0, 2))
    for each in (a, b, same, other):
        vision.add(each)
    vision.remove(b)
    images = vision.next_images()
    assert [vision.pop_waiting(image) for image in images] == [[a, same], [other]]
    assert vision.next_images() == []


def clients_of(sequences: list[SequenceState]) -> list[str]:
    return [each.request.client for each in sequences]


def test_clients_take_turns_however_many_requests_each_has() -> None:
    scheduler = Scheduler(RowBooks(100, 1_000_000), max_prefill_tokens=80, fair_rows=16)
    for client in ("greedy",) * 6 + ("other",) * 2:
        scheduler.add(sequence(client=client))
    assert clients_of(scheduler.admit()) == ["other", "greedy", "other", "greedy"]
    assert clients_of(scheduler.admit()) == ["greedy"] * 4


def test_who_has_had_more_steps_comes_later() -> None:
    scheduler = Scheduler(RowBooks(100, 1_000_000), max_prefill_tokens=20, fair_rows=16)
    for _ in range(3):
        scheduler.add(sequence(client="busy"))
    assert clients_of(scheduler.admit()) == ["busy"]
    for _ in range(3):
        scheduler.add(sequence(client="new"))
    for _ in range(50):
        assert scheduler.paused() == set()
    turns = [scheduler.admit() for _ in range(5)]
    assert [clients_of(turn) for turn in turns] == [["new"], ["new"], ["new"], ["busy"], ["busy"]]


def test_a_client_leaves_the_last_rows_to_others_and_has_all_but_those() -> None:
    scheduler = Scheduler(RowBooks(90, 1_000_000), max_prefill_tokens=10_000, fair_rows=16)
    for _ in range(100):
        scheduler.add(sequence(client="greedy"))
    assert len(scheduler.admit()) == 80
    scheduler.add(sequence(5, client="other"))
    assert clients_of(scheduler.admit()) == ["other"]


def test_beside_another_a_clients_youngest_rows_pause_and_alone_none() -> None:
    now = [0.0]
    scheduler = Scheduler(RowBooks(100, 1_000_000), 10_000, fair_rows=10, shares=Shares(lambda: now[0]))
    greedy = [sequence(4, client="greedy") for _ in range(5)]
    other = sequence(4, client="other")
    for each in greedy:
        scheduler.add(each)
    assert scheduler.admit() == greedy
    assert scheduler.paused() == set()
    scheduler.add(other)
    assert scheduler.admit() == [other]
    assert scheduler.paused() == set(greedy[2:])
    scheduler.remove(other)
    now[0] += PATIENCE_S / 2
    assert scheduler.paused() == set(greedy[2:])
    now[0] += PATIENCE_S
    assert scheduler.paused() == set()


def test_beside_another_no_sequence_starts_that_would_only_pause() -> None:
    scheduler = Scheduler(RowBooks(100, 1_000_000), 10_000, fair_rows=10)
    for client in ("one", "other"):
        for _ in range(5):
            scheduler.add(sequence(4, client=client))
    assert sorted(clients_of(scheduler.admit())) == ["one", "one", "other", "other"]
    assert not scheduler.paused()


def test_a_request_wider_than_the_share_still_takes_part() -> None:
    scheduler = Scheduler(RowBooks(100, 1_000_000), 10_000, fair_rows=10)
    wide = [sequence(16, client="greedy") for _ in range(2)]
    for each in (*wide, sequence(client="other")):
        scheduler.add(each)
    assert wide[0] in scheduler.admit()
    assert wide[0] not in scheduler.paused()


def test_one_clients_images_do_not_keep_anothers_waiting() -> None:
    vision = VisionBatcher(max_images=4)
    greedy = [sequence(image_seed=seed, client="greedy") for seed in range(6)]
    other = sequence(image_seed=9, client="other")
    for each in greedy:
        vision.add(each)
    assert [vision.pop_waiting(image) for image in vision.next_images()] == [[each] for each in greedy[:4]]
    vision.add(other)
    assert {vision.pop_waiting(image)[0] for image in vision.next_images()} == {other, greedy[4]}


def test_an_image_that_two_clients_wait_for_comes_as_early_as_for_either() -> None:
    vision = VisionBatcher(max_images=1)
    for seed in range(5):
        vision.add(sequence(image_seed=seed, client="greedy"))
    shared = sequence(image_seed=4, client="other")
    vision.add(shared)
    images = vision.next_images() + vision.next_images()
    assert any(shared in vision.pop_waiting(image) for image in images)
