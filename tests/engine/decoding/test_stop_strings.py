"""Stop strings are found where a plain search finds them, and the same is held back for each."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip2_serve.engine.decoding.detokenizer import REPLACEMENT, GrowingText, TextStream
from blip2_serve.engine.decoding.stop_strings import StopStrings
from support.engine.driving import decode

few_letters = st.text("ab", min_size=1, max_size=8)


def found_plainly(text: str, strings: tuple[str, ...]) -> int | None:
    """How far before the end of `text` the earliest string begins that is in it."""
    found = [len(text) - text.index(string) for string in strings if string in text]
    return max(found, default=None)


def held_plainly(text: str, strings: tuple[str, ...]) -> int:
    """The longest end of `text` with which a string begins."""
    ends = [text[start:] for start in range(len(text))]
    return max((len(end) for end in ends for string in strings if string.startswith(end)), default=0)


@given(strings=st.lists(few_letters, max_size=4).map(tuple), pieces=st.lists(st.text("abc", max_size=5), max_size=12))
def test_a_search_that_goes_on_finds_what_one_over_everything_finds(
    strings: tuple[str, ...], pieces: list[str]
) -> None:
    search, text = StopStrings(strings), ""
    for piece in pieces:
        text += piece
        found = search.feed(piece)
        assert found == found_plainly(text, strings)
        if found is not None:
            return
        assert search.num_held == held_plainly(text, strings)


@given(ids=st.lists(st.integers(0, 94), max_size=80))
def test_text_that_grows_is_the_text_of_all_ids(ids: list[int]) -> None:
    growing = GrowingText(decode)
    for number, token in enumerate(ids):
        assert growing.push(token) == decode(ids[: number + 1])


@given(ids=st.lists(st.integers(30, 60), min_size=1, max_size=60), data=st.data())
def test_a_stream_stops_where_the_whole_text_has_a_stop_string(ids: list[int], data: st.DataObject) -> None:
    whole = decode(ids).replace(REPLACEMENT, "")
    start = data.draw(st.integers(0, len(whole)))
    stop = whole[start : start + data.draw(st.integers(1, 6))] or "never"
    stream, shown = TextStream(decode, (stop,)), ""
    for number, token in enumerate(ids):
        shown += stream.push(token, is_last=number == len(ids) - 1)
        assert stop not in shown
        if stream.stopped:
            break
    assert stream.stopped == (stop in decode(ids))
    assert shown == stream.text == decode(ids).partition(stop)[0].strip()


@pytest.mark.parametrize("repeated", ["a", "ab"])
def test_a_long_string_costs_no_more_than_a_short_one(repeated: str) -> None:
    def seconds(strings: tuple[str, ...]) -> float:
        began = time.process_time()
        search = StopStrings(strings)
        for _ in range(4000):
            search.feed(repeated * 3)
        return time.process_time() - began

    long = (repeated * 200)[:255] + "x"
    times = [seconds((long,)) / seconds((repeated + "x",)) for _ in range(5)]
    assert min(times) < 3
