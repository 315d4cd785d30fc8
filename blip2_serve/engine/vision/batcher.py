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
        """True while this image waits to be encoded or is being encoded."""
        return key in self._waiting

    def add(self, sequence: SequenceState) -> None:
        """Queue a sequence; where it only knows its image's key, the image has to be held."""
        image = sequence.request.image
        if isinstance(image, ImageInput) and image.key not in self._waiting:
            self._queued[image.key] = image
        self._waiting.setdefault(image.key, []).append(sequence)

    def remove(self, sequence: SequenceState) -> None:
        """Forget a sequence, and its image if nobody else wants it and its encoding has not begun.

        Sequences of an image that was popped have been forgotten already.
        """
        key = sequence.request.image.key
        if key not in self._waiting:
            return
        waiting = self._waiting[key]
        waiting.remove(sequence)
        if not waiting and key in self._queued:
            del self._queued[key], self._waiting[key]

    def next_images(self) -> list[ImageInput]:
        """Pop the micro-batch to encode now; once it is encoded, `pop_waiting` is due for each image."""
        images = list(self._queued.values())[: self._max_images]
        for image in images:
            del self._queued[image.key]
        return images

    def pop_waiting(self, image: ImageInput) -> list[SequenceState]:
        """Pop the sequences that still wait for this image, which is encoded, or has failed."""
        return self._waiting.pop(image.key)
