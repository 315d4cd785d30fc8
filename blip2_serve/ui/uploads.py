"""This process's folder for visitors' pictures, which gradio fills; bounded in bytes and in age."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MAX_AGE_S = 3600.0
_PREFIX = "blip2-ui-"
# Least bytes a file counts for: millions of tiny files fill a folder, too.
MIN_FILE_BYTES = 65_536


class Uploads:
    """A private folder in the system's temporary one; the oldest files make room for new ones.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, max_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self._max_bytes = max_bytes
        self._kept: set[Path] = set()

    def keep_copy(self, file: Path) -> Path:
        """Copy one of our own files into the folder; it is never deleted to make room."""
        copy = self.folder / file.name
        shutil.copyfile(file, copy)
        self._kept.add(copy)
        return copy

    def holds(self, path: object) -> bool:
        """Return True if `path`, any value that a caller sent, is a file inside the folder."""
        if not isinstance(path, str):
            return False
        try:
            place = Path(path).resolve()
            return place.is_relative_to(self.folder) and place.is_file()
        except (OSError, ValueError):  # ValueError: the path holds a null byte
            return False

    def make_room(self, needed_bytes: int = 0) -> None:
        """Delete files older than `MAX_AGE_S`, then the oldest until `needed_bytes` more fit below the limit.

        Raises:
            OSError: a file cannot be deleted, or the folder cannot be made again.
        """
        found = sorted(self._sent(), key=lambda each: each[1].st_mtime)
        num_bytes = sum(_cost(status) for _, status in found) + needed_bytes
        for path, status in found:
            if num_bytes <= self._max_bytes and not _is_old(status):
                break
            num_bytes -= _cost(status)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another file lies beside it
                path.parent.rmdir()
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def tidy(self) -> None:
        """Delete old files, and the folders of killed processes; call more often than every `MAX_AGE_S`.

        Raises:
            OSError: a file cannot be deleted, or the folder cannot be made again.
        """
        self.make_room()
        os.utime(self.folder)  # shows other processes that this one lives
        for other in self.folder.parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # its own process has just deleted it
                if _is_old(other.stat()):
                    shutil.rmtree(other, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sent(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the files that visitors sent."""
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another upload has just made room
                if path not in self._kept and path.is_file():
                    yield path, path.stat()


def _cost(status: os.stat_result) -> int:
    return max(status.st_size, MIN_FILE_BYTES)


def _is_old(status: os.stat_result) -> bool:
    return time.time() - status.st_mtime > MAX_AGE_S
