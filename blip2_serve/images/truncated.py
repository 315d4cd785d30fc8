"""Pictures that were cut short, and the word about it to whoever asks about them."""

from collections import OrderedDict

from blip2_serve.remarks import TRUNCATED_IMAGE, remark

MAX_REMEMBERED = 65_536


class TruncatedPictures:
    """Remembers the last MAX_REMEMBERED, so that an answer about an id tells it too. For the event loop alone."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def tell(self, sha256: bytes, is_truncated: bool) -> None:
        """Remark on the running request if its picture, of this digest, is or once was cut short."""
        if not is_truncated and sha256 not in self._seen:
            return
        self._seen[sha256] = None
        self._seen.move_to_end(sha256)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        remark(TRUNCATED_IMAGE, "true")
