"""The bytes of an uploaded picture, kept no longer than they are needed."""


class Upload:
    """Hands the bytes out once and forgets them: a request that waits for the model must not keep megabytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def num_bytes(self) -> int:
        """What it holds now."""
        return len(self._data)

    def take(self) -> bytes:
        """The bytes; from now on they are the caller's alone."""
        data, self._data = self._data, b""
        return data
