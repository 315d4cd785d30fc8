"""Visitors' pictures do not stay, and no file outside their folder counts as one."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip2_serve.ui.uploads import MAX_AGE_S, MIN_FILE_BYTES, Uploads


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a system temporary folder of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    """A folder with room for 1 MB."""
    made = Uploads(max_bytes=1_000_000)
    yield made
    made.remove()


def send(uploads: Uploads, name: str, num_bytes: int, age_s: float = 0) -> Path:
    """Store an upload as gradio does: a file in a folder of its own."""
    path = uploads.folder / name / "image.png"
    path.parent.mkdir()
    path.write_bytes(b"x" * num_bytes)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_nobody_else_may_look_into_the_folder(uploads: Uploads) -> None:
    assert uploads.folder.stat().st_mode & 0o777 == 0o700


def test_the_oldest_gives_way_when_there_is_no_room(uploads: Uploads) -> None:
    oldest, older, newest = (send(uploads, str(age), 300_000, age) for age in (30, 20, 10))
    uploads.make_room(100_000)
    assert [path.exists() for path in (oldest, older, newest)] == [True, True, True]
    uploads.make_room(400_000)
    assert [path.exists() for path in (oldest, older, newest)] == [False, True, True]
    assert not oldest.parent.exists()


def test_tiny_files_do_not_add_up_to_millions(uploads: Uploads) -> None:
    sent = [send(uploads, str(number), 1, 60 - number) for number in range(50)]
    uploads.make_room()
    most = 1_000_000 // MIN_FILE_BYTES
    assert [path.exists() for path in sent] == [False] * (50 - most) + [True] * most


def test_what_is_old_goes_even_where_there_is_room(uploads: Uploads) -> None:
    old, new = send(uploads, "old", 1, MAX_AGE_S + 1), send(uploads, "new", 1, MAX_AGE_S - 60)
    uploads.tidy()
    assert [old.exists(), new.exists()] == [False, True]


def test_our_own_copies_stay(uploads: Uploads, tmp_path: Path) -> None:
    (tmp_path / "example.jpeg").write_bytes(b"x" * 200)
    copy = uploads.keep_copy(tmp_path / "example.jpeg")
    os.utime(copy, (0, 0))
    uploads.make_room(1_000_000)
    assert copy.stat().st_size == 200


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(uploads: Uploads) -> None:
    killed, living = Uploads(1_000_000), Uploads(1_000_000)
    for other in (killed, living):
        send(other, "private", 10)
        os.utime(other.folder, (0, 0))
    living.tidy()
    uploads.tidy()
    assert [killed.folder.exists(), living.folder.exists()] == [False, True]


def test_only_files_inside_are_held(uploads: Uploads, tmp_path: Path) -> None:
    inside = send(uploads, "inside", 1)
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
