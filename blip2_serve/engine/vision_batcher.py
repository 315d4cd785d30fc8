"""Sequences that wait for their image rows: equal images are encoded once, a few images at a time. No torch."""

from blip2_serve.engine.request import ImageInput
from blip2_serve.engine.sequence import Sequence


class VisionBatcher:
    """The images to encode, first come, first served, each with the sequences that wait for it."""

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._images: dict[bytes, ImageInput] = {}
        self._waiting: dict[bytes, list[Sequence]] = {}

    def holds(self, key: bytes) -> bool:
        """Whether the pixels of this image wait to be encoded."""
        return key in self._images

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence; where it only knows its image's key, the image has to be held."""
        image = sequence.request.image
        if isinstance(image, ImageInput):
            self._images.setdefault(image.key, image)
        self._waiting.setdefault(image.key, []).append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence that waits, and its image if nobody else wants it."""
        key = sequence.request.image.key
        waiting = self._waiting.get(key, [])
        if sequence in waiting:
            waiting.remove(sequence)
            if not waiting:
                self._pop(key)

    def next_images(self) -> list[ImageInput]:
        """The micro-batch to encode now; it stays queued until `take` is called for each."""
        return list(self._images.values())[: self._max_images]

    def take(self, image: ImageInput) -> list[Sequence]:
        """The sequences that waited for this image."""
        return self._pop(image.key)

    def _pop(self, key: bytes) -> list[Sequence]:
        del self._images[key]
        return self._waiting.pop(key)
