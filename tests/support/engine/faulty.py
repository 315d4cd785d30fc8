"""Engines whose backend fails when a test says so."""

from collections.abc import Callable
from typing import Any

import torch

from blip2_serve.engine.engine import Engine
from support.engine.driving import backend_of, make_engine

POISON = 77


class Faulty:
    """A backend that calls `fault` before each of its calls, with the name of the call and its sequences."""

    def __init__(self, backend: Any, fault: Callable[[str, list[Any]], None]) -> None:
        self._backend = backend
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def prefill(self, span: Any, image_tokens: Any) -> None:
        self._fault("prefill", span.sequences)
        self._backend.prefill(span, image_tokens)

    def decode(self, steps: Any) -> torch.Tensor:
        self._fault("decode", [sequence for step in steps for sequence in step.span.sequences])
        return self._backend.decode(steps)


def faulty_engine(model: Any, fault: Callable[[str, list[Any]], None], **settings: Any) -> Engine:
    return make_engine(model, backend=Faulty(backend_of(model), fault), **settings)


def poison(where: str) -> Callable[[str, list[Any]], None]:
    def fault(call: str, sequences: list[Any]) -> None:
        if call == where and any(POISON in sequence.request.prompt_ids for sequence in sequences):
            raise ValueError("poisoned")

    return fault
