"""This process's folder for visitors' pictures; bounded in bytes, in age, and in what one client has in it."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from blip2_serve.engine.shares import leaves_room
from blip2_serve.errors import Busy

MAX_AGE_S = 3600.0
# A picture that was sent or asked about so lately is in use, and makes room for no other.
IN_USE_S = 60.0
# Least bytes a file counts for: millions of tiny files fill a folder, too.
MIN_FILE_BYTES = 65_536
_PREFIX = "blip2-ui-"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


@dataclass(slots=True)
class _Picture:
    client: str
    cost: int
    sent: float
    used: float


class Uploads:
    """A private folder in the system's temporary one; what was used longest ago makes room for new pictures.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, max_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self._max_bytes = max_bytes
        self._pictures: dict[Path, _Picture] = {}  # used longest ago first
        self._turn = threading.Lock()

    def keep_copy(self, file: Path) -> Path:
        """Copy one of our own files into the folder; it is never deleted to make room."""
        copy = self.folder / file.name
        shutil.copyfile(file, copy)
        return copy

    def keep(self, client: str, name: str, data: bytes) -> Path:
        """Write a visitor's picture to a new file, named like `name`, and return its path.

        Raises:
            Busy: pictures in use leave no room for it, or this client's do.
            OSError: the file cannot be written.
        """
        cost = max(len(data), MIN_FILE_BYTES)
        suffix = Path(name).suffix
        path = self.folder / secrets.token_hex(16) / f"picture{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        with self._turn:
            self._make_room(client, cost)
            self._pictures[path] = _Picture(client, cost, time.monotonic(), time.monotonic())
        try:
            path.parent.mkdir(mode=0o700, parents=True)
            path.write_bytes(data)
        except OSError:
            with self._turn:
                self._forget(path)
            raise
        return path

    def holds(self, path: object) -> bool:
        """Return True if `path`, any value that a caller sent, is a file inside the folder; it is in use now."""
        if not isinstance(path, str):
            return False
        try:
            place = Path(path).resolve()
            is_held = place.is_relative_to(self.folder) and place.is_file()
        except (OSError, ValueError):  # ValueError: the path holds a null byte
            return False
        with self._turn:
            picture = self._pictures.pop(place, None)
            if picture is not None:
                picture.used = time.monotonic()
                self._pictures[place] = picture
        return is_held

    def tidy(self) -> None:
        """Delete old pictures, and the folders of killed processes; call more often than every `MAX_AGE_S`.

        Raises:
            OSError: the folder cannot be made again.
        """
        oldest = time.monotonic() - MAX_AGE_S
        with self._turn:
            for path in [path for path, picture in self._pictures.items() if picture.sent < oldest]:
                self._forget(path)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(self.folder)  # shows other processes that this one lives
        for other in self.folder.parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # its own process has just deleted it
                if time.time() - other.stat().st_mtime > MAX_AGE_S:
                    shutil.rmtree(other, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_room(self, client: str, cost: int) -> None:
        newest = time.monotonic() - IN_USE_S
        in_use = [picture for picture in self._pictures.values() if picture.used > newest]
        own = sum(picture.cost for picture in in_use if picture.client == client)
        free = self._max_bytes - sum(picture.cost for picture in in_use) - cost
        if free < 0 or not leaves_room(own, cost, free):
            raise Busy("Too many pictures are in use on the page: try again in a minute.", retry_after_s=IN_USE_S)
        for path, picture in list(self._pictures.items()):
            if self._num_bytes() + cost <= self._max_bytes:
                return
            if picture.used <= newest:
                self._forget(path)

    def _num_bytes(self) -> int:
        return sum(picture.cost for picture in self._pictures.values())

    def _forget(self, path: Path) -> None:
        del self._pictures[path]
        shutil.rmtree(path.parent, ignore_errors=True)
