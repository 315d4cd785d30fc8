"""Threads that encode micro-batches of images while the loop decodes; without threads, the loop's own does it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

import torch

from blip2_serve.engine.messages import ImageInput

Encoded = dict[ImageInput, torch.Tensor | Exception]
"""Image tokens (query tokens, width) of each image, in the compute dtype, or the reason why there are none."""
Encode = Callable[[list[ImageInput]], Encoded]


class Encoders:
    """Hands each micro-batch to one of `num_threads` threads; `on_done` is called there when one is finished.

    `num_begun` micro-batches have begun and are not collected yet. All methods but `stop` belong to the loop's thread,
    which encodes by itself where there are no threads. The threads are daemons: one that hangs in the model does not
    keep the process from ending.
    """

    def __init__(self, encode: Encode, num_threads: int, on_done: Callable[[], None]) -> None:
        self._encode = encode
        self._num_threads = num_threads
        self._on_done = on_done
        self._threads: list[threading.Thread] = []
        self._todo: SimpleQueue[list[ImageInput] | None] = SimpleQueue()
        self._done: deque[Encoded | Exception] = deque()
        self.num_begun = 0

    def encode(self, next_images: Callable[[], list[ImageInput]]) -> Encoded:
        """Collect all images that are encoded, and begin with as many micro-batches as there is room for.

        Without threads, encode one micro-batch now. Raises the exception that ended a whole micro-batch.
        """
        encoded: Encoded = {}
        if not self._num_threads:
            images = next_images()
            return self._encode(images) if images else encoded
        while self._done:
            done = self._done.popleft()
            self.num_begun -= 1
            if isinstance(done, Exception):
                raise done
            encoded |= done
        while self.num_begun < self._num_threads and (images := next_images()):
            self._begin(images)
        return encoded

    def stop(self, timeout_s: float) -> bool:
        """Wait until the threads have ended, each after its current micro-batch; False if one has not in time.

        A thread that is still in torch when the interpreter ends aborts the process.
        """
        until = time.monotonic() + timeout_s
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _begin(self, images: list[ImageInput]) -> None:
        self.num_begun += 1
        self._todo.put(images)
        if len(self._threads) < self.num_begun:
            thread = threading.Thread(target=self._work, name=f"encoder-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (images := self._todo.get()) is not None:
            try:
                self._done.append(self._encode(images))
            except Exception as error:
                self._done.append(error)
            finally:
                self._on_done()
