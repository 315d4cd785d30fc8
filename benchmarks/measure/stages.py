"""Where the engine's time goes: its calls of the model, each waited for, and what is left for the host.

Waiting after every call keeps the device from working ahead, so the sum is more than an undisturbed run takes: read the
stages as proportions, and throughput from a run without this.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measure.floor import synchronize
from blip2_serve.engine.decoding.picking import pick


class StageClock:
    """Seconds and calls by stage; a stage inside another is taken out of the outer one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._device = device
        self._inner = [0.0]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        synchronize(self._device)
        begin = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            synchronize(self._device)
            spent, inner = time.perf_counter() - begin, self._inner.pop()
            self._inner[-1] += spent
            self.seconds[name] += spent - inner
            self.calls[name] += 1

    def timed(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run`, with its time counted under `name`."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return run(*arguments, **named)

        return timed


class TimedBackend:
    """A backend whose `prefill` and `decode` are timed."""

    def __init__(self, backend: Any, clock: StageClock) -> None:
        self._backend = backend
        self.prefill = clock.timed("prefill", backend.prefill)
        self.decode = clock.timed("decode", backend.decode)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


@contextmanager
def timed_stages(encode_images: Any, clock: StageClock) -> Iterator[None]:
    """Times ViT, Q-Former and picking; what calls around them has no stage of its own."""
    with (
        patch.object(encode_images.tower, "_run", clock.timed("vit", encode_images.tower._run)),
        patch.object(encode_images, "_qformer", clock.timed("qformer", encode_images._qformer)),
        patch("blip2_serve.engine.runner.pick", clock.timed("picking", pick)),
    ):
        yield
