"""Visitors' pictures are bounded, shared fairly and do not stay; no file outside their folder counts as one."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blip2_serve.errors import Busy
from blip2_serve.ui import uploads as module
from blip2_serve.ui.uploads import IN_USE_S, MAX_AGE_S, MIN_FILE_BYTES, Uploads


class Clock:
    """Stands in for `time`: monotonic time passes when told to."""

    now = 1000.0
    time = staticmethod(time.time)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a system temporary folder of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the module."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def uploads(clock: Clock) -> Iterator[Uploads]:
    """A folder with room for 1 MB."""
    made = Uploads(max_bytes=1_000_000)
    yield made
    made.remove()


def stored_bytes(uploads: Uploads) -> int:
    return sum(path.stat().st_size for path in uploads.folder.rglob("*") if path.is_file())


def test_nobody_else_may_look_into_the_folder(uploads: Uploads) -> None:
    assert uploads.folder.stat().st_mode & 0o777 == 0o700


def test_what_was_used_longest_ago_gives_way_when_there_is_no_room(uploads: Uploads, clock: Clock) -> None:
    first, second, third = (uploads.keep(client, "x.png", b"x" * 300_000) for client in "abc")
    clock.now += IN_USE_S + 1
    assert uploads.holds(str(first))
    uploads.keep("a", "x.png", b"x" * 300_000)
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert not second.parent.exists()


def test_pictures_in_use_stay_and_the_next_is_told_to_wait(uploads: Uploads, clock: Clock) -> None:
    kept = [uploads.keep(f"client {number}", "x.png", b"x" * 100_000) for number in range(9)]
    with pytest.raises(Busy):
        uploads.keep("another", "x.png", b"x" * 100_000)
    assert all(path.exists() for path in kept)
    assert stored_bytes(uploads) <= 1_000_000
    clock.now += IN_USE_S + 1
    uploads.keep("another", "x.png", b"x" * 100_000)


def test_a_client_that_sends_much_leaves_room_for_the_next(uploads: Uploads) -> None:
    for _ in range(8):
        uploads.keep("greedy", "x.png", b"x" * 100_000)
    with pytest.raises(Busy):
        uploads.keep("greedy", "x.png", b"x" * 100_000)
    uploads.keep("modest", "x.png", b"x" * 100_000)


def test_tiny_files_do_not_add_up_to_millions(uploads: Uploads, clock: Clock) -> None:
    for _ in range(50):
        clock.now += IN_USE_S + 1
        uploads.keep("a", "x", b"")
    assert len(list(uploads.folder.iterdir())) == 1_000_000 // MIN_FILE_BYTES


def test_fifty_at_once_stay_within_the_bound(uploads: Uploads) -> None:
    def send(client: int) -> bool:
        try:
            return uploads.keep(str(client), "x.png", b"x" * 90_000).exists()
        except Busy:
            return False

    with ThreadPoolExecutor(16) as threads:
        kept = list(threads.map(send, range(50)))
    assert 8 <= sum(kept) <= 11
    assert stored_bytes(uploads) == 90_000 * sum(kept)


def test_what_is_old_goes_even_where_there_is_room(uploads: Uploads, clock: Clock) -> None:
    old = uploads.keep("a", "x", b"old")
    clock.now += 61
    new = uploads.keep("a", "x", b"new")
    clock.now += MAX_AGE_S - 60
    uploads.tidy()
    assert [old.exists(), new.exists()] == [False, True]


def test_a_folder_that_was_deleted_is_made_again(uploads: Uploads) -> None:
    uploads.remove()
    uploads.tidy()
    assert uploads.keep("a", "x.png", b"x").read_bytes() == b"x"


def test_a_picture_that_cannot_be_written_takes_no_room(uploads: Uploads) -> None:
    uploads.remove()
    uploads.folder.write_bytes(b"in the way")
    for _ in range(20):
        with pytest.raises(OSError, match=r"picture|directory|exists"):
            uploads.keep("a", "x.png", b"x" * 200_000)
    uploads.folder.unlink()
    uploads.keep("a", "x.png", b"x" * 200_000)


def test_our_own_copies_stay(uploads: Uploads, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "example.jpeg").write_bytes(b"x" * 200)
    copy = uploads.keep_copy(tmp_path / "example.jpeg")
    clock.now += 2 * MAX_AGE_S
    uploads.keep("a", "x", b"x" * 800_000)
    uploads.tidy()
    assert copy.stat().st_size == 200


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(uploads: Uploads) -> None:
    killed, living = Uploads(1_000_000), Uploads(1_000_000)
    for other in (killed, living):
        other.keep("a", "private", b"x")
        os.utime(other.folder, (0, 0))
    living.tidy()
    uploads.tidy()
    assert [killed.folder.exists(), living.folder.exists()] == [False, True]


def test_only_files_inside_are_held(uploads: Uploads, tmp_path: Path) -> None:
    inside = uploads.keep("a", "inside.png", b"x")
    (tmp_path / "secret").write_text("secret")
    (uploads.folder / "link").symlink_to(tmp_path / "secret")
    assert uploads.holds(str(inside))
    outside = [
        str(tmp_path / "secret"),
        f"{uploads.folder}/../secret",
        str(uploads.folder / "link"),
        str(uploads.folder),
        str(inside.parent),
        f"{uploads.folder}-more",
        "x" * 10_000,
        "a\0b",
        "http://example.com/a.png",
        None,
        7,
        [str(inside)],
    ]
    assert [path for path in outside if uploads.holds(path)] == []
