"""Image tokens are read back as they were stored, or not at all."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from blip2_serve.engine.vision.image_cache import ImageCache, ImageFolder


def image_tokens(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)


def folder_at(path: Path, dtype: torch.dtype = torch.float32, max_bytes: int = 1 << 20) -> ImageFolder:
    return ImageFolder(path, max_bytes, dtype, (4, 8))


def test_the_least_recently_used_tokens_leave_first() -> None:
    cache = ImageCache(3 * image_tokens(0).nbytes)
    for seed in range(3):
        cache.put(b"%d" % seed, image_tokens(seed))
    assert cache.get(b"0") is not None
    cache.put(b"3", image_tokens(3))
    assert cache.get(b"1") is None
    assert torch.equal(cache.get(b"0"), image_tokens(0))
    assert cache.num_bytes == 3 * image_tokens(0).nbytes
    assert (cache.hits, cache.misses) == (2, 1)


def test_a_cache_of_no_bytes_holds_nothing() -> None:
    cache = ImageCache(0)
    cache.put(b"1", image_tokens(1))
    assert cache.get(b"1") is None
    assert cache.num_bytes == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_folder_survives_a_restart_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    ImageCache(1000, folder_at(tmp_path, dtype)).put(b"\x01key", image_tokens(1, dtype))
    reopened = ImageCache(1000, folder_at(tmp_path, dtype))
    found = reopened.get(b"\x01key")
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, image_tokens(1, dtype))


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-5], lambda raw: b"", lambda raw: raw[:40], lambda raw: raw[:-1] + b"x"]
)
def test_a_torn_file_is_only_a_miss(tmp_path: Path, damage: object) -> None:
    folder = folder_at(tmp_path)
    folder.write(b"key", image_tokens(1))
    (file,) = tmp_path.glob("*.rows")
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert folder.read(b"key") is None
    folder.write(b"key", image_tokens(1))
    assert torch.equal(folder.read(b"key"), image_tokens(1))


def test_tokens_of_another_dtype_are_a_miss(tmp_path: Path) -> None:
    folder_at(tmp_path).write(b"key", image_tokens(1))
    assert folder_at(tmp_path, torch.bfloat16).read(b"key") is None


@pytest.mark.parametrize("shape", [(5, 8), (3, 8), (4, 9), (8, 4), (2, 16), (32,)])
def test_tokens_of_another_shape_are_a_miss(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = folder_at(tmp_path)
    folder.write(b"key", torch.ones(shape))
    assert folder.read(b"key") is None


def test_the_least_recently_used_files_go_when_the_folder_is_full(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, max_bytes=2000)
    for seed in range(20):
        folder.write(b"%02d" % seed, image_tokens(seed))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000
    assert folder.read(b"19") is not None
    assert folder.read(b"00") is None


def test_a_file_that_is_read_stays_longer(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, max_bytes=2000)
    for seed in range(5):
        folder.write(b"%02d" % seed, image_tokens(seed))
        os.utime(folder._file(b"%02d" % seed), (seed, seed))
    assert folder.read(b"00") is not None
    for seed in range(5, 10):
        folder.write(b"%02d" % seed, image_tokens(seed))
    assert folder.read(b"00") is not None
    assert folder.read(b"01") is None


@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def no_space(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    folder = folder_at(tmp_path)
    target = os if where == "replace" else tempfile._TemporaryFileWrapper
    monkeypatch.setattr(target, where, no_space, raising=False)
    for _ in range(8):
        folder.write(b"key", image_tokens(1))
    assert list(tmp_path.iterdir()) == []


def test_tokens_that_find_no_memory_on_their_way_to_the_disk_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    folder = folder_at(tmp_path)
    monkeypatch.setattr(torch.Tensor, "cpu", no_memory)
    folder.write(b"key", image_tokens(1))
    assert folder.read(b"key") is None


def test_a_folder_that_may_only_be_read_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_allowed(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    folder = folder_at(tmp_path)
    folder.write(b"key", image_tokens(1))
    monkeypatch.setattr(os, "utime", not_allowed)
    assert torch.equal(folder.read(b"key"), image_tokens(1))


def test_what_a_crash_has_left_is_swept_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            folder_at(tmp_path).write(b"key", image_tokens(1))
    folder_at(tmp_path).write(b"other", image_tokens(2))
    assert [file.name for file in tmp_path.iterdir()] == [b"other".hex() + ".rows"]


def test_writing_a_file_again_does_not_count_it_twice(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, max_bytes=1000)
    folder.write(b"a", image_tokens(0))
    for _ in range(20):
        folder.write(b"b", image_tokens(1))
    assert folder.read(b"a") is not None


def test_a_disk_that_does_not_work_is_no_error(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    folder.write(b"key", image_tokens(1))
    assert folder.read(b"key") is None
