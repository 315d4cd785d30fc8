"""Sequences that wait for their image tokens: equal images are encoded once, a few images at a time. No torch."""

from blip2_serve.engine.messages import ImageInput
from blip2_serve.engine.sequence import SequenceState


class VisionBatcher:
    """The images to encode, first come, first served, each with the sequences that wait for it."""

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._queued: dict[bytes, ImageInput] = {}
        # By the image's key, of queued images and of those that are being encoded.
        self._waiting: dict[bytes, list[SequenceState]] = {}

    def holds(self, key: bytes) -> bool:
        """Whether this image waits to be encoded, or is being encoded."""
        return key in self._waiting

    def add(self, sequence: SequenceState) -> None:
        """Queues a sequence; where it only knows its image's key, the image has to be held."""
        image = sequence.request.image
        if isinstance(image, ImageInput) and image.key not in self._waiting:
            self._queued[image.key] = image
        self._waiting.setdefault(image.key, []).append(sequence)

    def remove(self, sequence: SequenceState) -> None:
        """Forgets a sequence that waits, and its image if nobody else wants it and its encoding has not begun."""
        key = sequence.request.image.key
        waiting = self._waiting.get(key, [])
        if sequence in waiting:
            waiting.remove(sequence)
            if not waiting and key in self._queued:
                del self._queued[key], self._waiting[key]

    def next_images(self) -> list[ImageInput]:
        """The micro-batch to encode now; `take` is to be called for each when that is done."""
        images = list(self._queued.values())[: self._max_images]
        for image in images:
            del self._queued[image.key]
        return images

    def take(self, image: ImageInput) -> list[SequenceState]:
        """The sequences that still wait for this image, which is encoded."""
        return self._waiting.pop(image.key)
