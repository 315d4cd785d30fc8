"""The three ways a request can give its picture."""

from dataclasses import dataclass


class Upload:
    """Hands out its bytes once and forgets them: a request that waits for the model must not keep megabytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def num_bytes(self) -> int:
        """Bytes held now; 0 after `release`."""
        return len(self._data)

    def release(self) -> bytes:
        """Hand over the bytes; no reference is kept."""
        data, self._data = self._data, b""
        return data


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A picture to fetch; nothing about `url` has been checked."""

    url: str


@dataclass(frozen=True, slots=True)
class ImageId:
    """A picture that was sent before; `sha256` is the 32-byte digest of its bytes."""

    sha256: bytes


ImageSource = Upload | ImageUrl | ImageId
