"""Where gradio keeps the pictures of visitors: a folder of this process, bounded in bytes and in time."""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

MAX_AGE_S = 3600.0


class Uploads:
    """A private folder below the system's temporary one; the oldest files give way to new ones."""

    def __init__(self, max_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="blip2-ui-")).resolve()
        self._max_bytes = max_bytes
        self._kept: set[Path] = set()

    def keep_copy(self, file: Path) -> Path:
        """Copy a file of our own into the folder, where it stays."""
        copy = self.folder / file.name
        shutil.copyfile(file, copy)
        self._kept.add(copy)
        return copy

    def holds(self, path: object) -> bool:
        """Whether `path`, whatever a stranger sent, is the path of a file inside the folder."""
        if not isinstance(path, str):
            return False
        try:
            place = Path(path).resolve()
            return place.is_relative_to(self.folder) and place.is_file()
        except (OSError, ValueError):  # ValueError: the path holds a null byte
            return False

    def make_room(self, needed_bytes: int = 0) -> None:
        """Delete what is older than `MAX_AGE_S`, and the oldest until `needed_bytes` fit below the limit."""
        found = [(path, path.stat()) for path in self._files() if path not in self._kept]
        num_bytes = sum(status.st_size for _, status in found) + needed_bytes
        for path, status in sorted(found, key=lambda each: each[1].st_mtime):
            if num_bytes <= self._max_bytes and time.time() - status.st_mtime < MAX_AGE_S:
                break
            num_bytes -= status.st_size
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another file lies beside it
                path.parent.rmdir()
        self.folder.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Delete everything, the folder too."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]
