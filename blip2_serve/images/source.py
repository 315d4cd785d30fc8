"""The three ways in which a request gives its picture."""

from dataclasses import dataclass


class Upload:
    """Hands the bytes out once and forgets them: a request that waits for the model must not keep megabytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def num_bytes(self) -> int:
        """What it holds now."""
        return len(self._data)

    def release(self) -> bytes:
        """The bytes; from now on they are the caller's alone."""
        data, self._data = self._data, b""
        return data


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A picture that somebody else has; nothing about `url` has been checked."""

    url: str


@dataclass(frozen=True, slots=True)
class ImageId:
    """A picture that was sent before: `sha256` is the digest of its bytes, 32 bytes."""

    sha256: bytes


ImageSource = Upload | ImageUrl | ImageId
