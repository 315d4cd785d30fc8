"""Sequences that wait for their image tokens: equal images are encoded once, a few images at a time. No torch."""

from collections import Counter

from blip2_serve.engine.messages import ImageInput, KnownImage
from blip2_serve.engine.retrieval.sequence import AnySequence
from blip2_serve.engine.shares import Shares

# Images of one client in a micro-batch while several clients are here: the others' wait for a whole one.
FAIR_IMAGES = 1


class VisionBatcher:
    """The images to encode, each with the sequences that wait for it.

    The client that has had fewest comes first, and a client's own in their order.
    """

    def __init__(self, max_images: int, shares: Shares | None = None) -> None:
        self._max_images = max_images
        self._shares = shares or Shares()
        # By the image's key: images whose encoding has not begun, and the keys that each client waits for, in order.
        self._queued: dict[bytes, ImageInput | KnownImage] = {}
        self._lines: dict[str, dict[bytes, None]] = {}
        # By the image's key, of queued images and of those that are being encoded.
        self._waiting: dict[bytes, list[AnySequence]] = {}

    def holds(self, key: bytes) -> bool:
        """True while this image waits to be encoded or is being encoded."""
        return key in self._waiting

    def add(self, sequence: AnySequence) -> None:
        """Queue a sequence; where it only knows its image's keys, the image or its states have to be at hand."""
        image, client = sequence.image, sequence.request.client
        is_queued = image.key in self._queued or image.key not in self._waiting
        if is_queued and (isinstance(image, ImageInput) or image.key not in self._queued):
            self._queued[image.key] = image  # pixels outlive states that are kept only as long as there is room
        self._waiting.setdefault(image.key, []).append(sequence)
        self._shares.enter(client)
        if image.key in self._queued:
            self._lines.setdefault(client, {})[image.key] = None

    def remove(self, sequence: AnySequence) -> None:
        """Forget a sequence, and its image if nobody else wants it and its encoding has not begun.

        Sequences of an image that was popped have been forgotten already.
        """
        key = sequence.image.key
        if key not in self._waiting:
            return
        waiting = self._waiting[key]
        waiting.remove(sequence)
        self._shares.leave(sequence.request.client)
        if key in self._queued:
            self._leave_line(key, sequence.request.client, waiting)
            if not waiting:
                del self._queued[key], self._waiting[key]

    def next_images(self) -> list[ImageInput | KnownImage]:
        """Pop the micro-batch to encode now; once it is encoded, `pop_waiting` is due for each image."""
        images: list[ImageInput | KnownImage] = []
        most = FAIR_IMAGES if self._shares.contended else self._max_images
        num_had: Counter[str] = Counter()
        while len(images) < self._max_images:
            client = self._shares.first(name for name in self._lines if num_had[name] < most)
            if client is None:
                break
            num_had[client] += 1
            images.append(self._begin(next(iter(self._lines[client])), client))
        return images

    def pop_waiting(self, image: ImageInput | KnownImage) -> list[AnySequence]:
        """Pop the sequences that still wait for this image, which is encoded, or has failed."""
        waiting = self._waiting.pop(image.key)
        for sequence in waiting:
            self._shares.leave(sequence.request.client)
        return waiting

    def _begin(self, key: bytes, client: str) -> ImageInput | KnownImage:
        self._shares.charge(client, 1)
        for sequence in list(self._waiting[key]):
            self._leave_line(key, sequence.request.client, [])
        return self._queued.pop(key)

    def _leave_line(self, key: bytes, client: str, waiting: list[AnySequence]) -> None:
        """Take an image out of a client's line unless a sequence of that client still waits for it."""
        line = self._lines.get(client, {})
        if key in line and not any(sequence.request.client == client for sequence in waiting):
            del line[key]
            if not line:
                del self._lines[client]
