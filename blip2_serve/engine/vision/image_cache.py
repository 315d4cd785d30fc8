"""Image tokens that were computed before: in memory, and in a folder if there is one.

Tokens are read back bit by bit as they were stored, in the compute dtype, under the key of their `ImageInput`.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import torch

from blip2_serve.engine.messages import ImageInput, KnownImage
from blip2_serve.engine.retrieval.sequence import Sight

logger = logging.getLogger(__name__)

# Part of the on-disk format: image tokens were once called rows, and folders outlive releases.
_SUFFIX = ".rows"
_UNFINISHED = ".unfinished"


class ImageCache:
    """The least recently used image tokens leave first when `max_bytes` is exceeded; 0 bytes hold nothing."""

    def __init__(self, max_bytes: int, folder: "ImageFolder | None" = None) -> None:
        self.num_bytes = 0
        self.hits = 0
        self.misses = 0
        self._max_bytes = max_bytes
        self._folder = folder
        self._image_tokens: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def get(self, key: bytes) -> torch.Tensor | None:
        """Image tokens (query tokens, width) in the compute dtype, on the CPU or where they were put from, or None."""
        image_tokens = self._image_tokens.get(key)
        if image_tokens is not None:
            self._image_tokens.move_to_end(key)
        elif self._folder is not None:
            image_tokens = self._folder.read(key)
            if image_tokens is not None:
                self._keep(key, image_tokens)
        self.hits += image_tokens is not None
        self.misses += image_tokens is None
        return image_tokens

    def put(self, key: bytes, image_tokens: torch.Tensor) -> None:
        """Keep image tokens (query tokens, width), in the compute dtype."""
        self._keep(key, image_tokens)
        if self._folder is not None:
            self._folder.write(key, image_tokens)

    def __contains__(self, key: bytes) -> bool:
        return key in self._image_tokens

    def _keep(self, key: bytes, image_tokens: torch.Tensor) -> None:
        if key in self._image_tokens:
            return
        self._image_tokens[key] = image_tokens
        self.num_bytes += image_tokens.nbytes
        while self.num_bytes > self._max_bytes:
            _, oldest = self._image_tokens.popitem(last=False)
            self.num_bytes -= oldest.nbytes


class Kept:
    """Everything kept of pictures: image tokens in one cache, the tower's states and unit vectors in another."""

    def __init__(self, image_tokens: ImageCache, vision: ImageCache) -> None:
        self.image_tokens = image_tokens
        self.vision = vision

    def sight(self, image: ImageInput | KnownImage, *, with_states: bool) -> Sight | None:
        """Return what its reader made of a picture, with the tower's states if wanted; None if it is not kept."""
        if image.reader == "caption":
            image_tokens = self.image_tokens.get(image.key)
            return None if image_tokens is None else Sight(image_tokens)
        vectors, states = self.vision.get(image.key), self.states(image) if with_states else None
        return None if vectors is None or (with_states and states is None) else Sight(vectors, states)

    def states(self, image: ImageInput | KnownImage) -> torch.Tensor | None:
        """The tower's states of the picture, (1 + patches, vision width); None if they are not kept."""
        return self.vision.get(image.states_key) if image.states_key else None

    def has_states(self, image: ImageInput | KnownImage) -> bool:
        """True if the tower's states of the picture are kept."""
        return image.states_key in self.vision

    def keep(self, image: ImageInput | KnownImage, sight: Sight) -> None:
        """Keep what was made of a picture, as far as there is room."""
        (self.image_tokens if image.reader == "caption" else self.vision).put(image.key, sight.read)
        if sight.states is not None and image.states_key:
            self.vision.put(image.states_key, sight.states)


class ImageFolder:
    """One file per image: a JSON line (dtype, shape, checksum), then the numbers.

    A file is written under another name and renamed, and checked when it is read: a torn file, or one of another dtype
    or shape (query tokens, width) than this model's, is a miss. A disk that does not work makes the cache useless,
    never the server. Beyond `max_bytes` the files that have not been read or written for the longest time go.
    """

    def __init__(self, path: Path, max_bytes: int, dtype: torch.dtype, shape: tuple[int, int]) -> None:
        self._path = path
        self._dtype = dtype
        self._shape = shape
        self._max_bytes = max_bytes
        path.mkdir(parents=True, exist_ok=True)
        # A write that a crash has cut short. Another server that is writing now only loses that one file.
        for file in path.glob(f"*{_UNFINISHED}"):
            file.unlink(missing_ok=True)
        self._num_bytes = sum(file.stat().st_size for file in path.glob(f"*{_SUFFIX}"))

    def read(self, key: bytes) -> torch.Tensor | None:
        """Image tokens (query tokens, width) on the CPU; None without a whole file of this model's shape and dtype."""
        try:
            header, _, body = self._file(key).read_bytes().partition(b"\n")
            about = json.loads(header)
            is_ours = (about["dtype"], about["shape"]) == (str(self._dtype), list(self._shape))
            if not is_ours or about["sha256"] != hashlib.sha256(body).hexdigest():
                return None
            with suppress(OSError):  # not allowed in a folder that another user owns
                os.utime(self._file(key))
            return torch.frombuffer(bytearray(body), dtype=self._dtype).view(self._shape)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
            logger.warning("image cache: %s cannot be read: %s", self._file(key).name, error)
            return None

    def write(self, key: bytes, image_tokens: torch.Tensor) -> None:
        """Store image tokens (query tokens, width); only logs a failure."""
        try:
            self._num_bytes += self._write_whole(self._file(key), _content(image_tokens))
            if self._num_bytes > self._max_bytes:
                self._shrink()
        except (OSError, RuntimeError, MemoryError) as error:
            logger.warning("image cache: %s cannot be written: %s", self._file(key).name, error)

    def _write_whole(self, file: Path, content: bytes) -> int:
        """Write a file under another name and rename it; returns by how many bytes the folder has grown."""
        old_size = file.stat().st_size if file.exists() else 0
        with tempfile.NamedTemporaryFile(dir=self._path, suffix=_UNFINISHED, delete=False) as unfinished:
            try:
                unfinished.write(content)
                unfinished.flush()
                os.replace(unfinished.name, file)
            except OSError:
                os.unlink(unfinished.name)
                raise
        return len(content) - old_size

    def _shrink(self) -> None:
        """Drop the least recently used files until a tenth of the room is free, so that the next images find room."""
        files = sorted(self._path.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
        self._num_bytes = sum(file.stat().st_size for file in files)
        for file in files:
            if self._num_bytes <= self._max_bytes * 0.9:
                break
            self._num_bytes -= file.stat().st_size
            file.unlink(missing_ok=True)

    def _file(self, key: bytes) -> Path:
        return self._path / f"{key.hex()}{_SUFFIX}"


def _content(image_tokens: torch.Tensor) -> bytes:
    """The content of the file of image tokens (query tokens, width)."""
    body = image_tokens.contiguous().cpu().view(torch.uint8).numpy().tobytes()
    dtype, shape = str(image_tokens.dtype), list(image_tokens.shape)
    about = {"dtype": dtype, "shape": shape, "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(about).encode() + b"\n" + body
