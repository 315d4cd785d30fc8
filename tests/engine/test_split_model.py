"""Layers on several devices: PyTorch's fake tensors carry devices without having them, and refuse to mix them."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from blip2_serve.engine.backends import Backend, make_backend
from blip2_serve.engine.cache.group import Group, Step
from blip2_serve.engine.cache.rows import make_books
from blip2_serve.engine.engine import make_sequence
from blip2_serve.engine.messages import ImageInput, Request
from blip2_serve.options import DecodingOptions
from support.engine import wide_models
from support.engine.wide_models import KINDS, make_model

# Not "cuda": a build of PyTorch without it cannot slice even fakes. No CPU has a number, but a fake may.
FIRST, SECOND = torch.device("cpu"), torch.device("cpu", 1)


@pytest.fixture
def backend(kind: str) -> Iterator[Backend]:
    """A backend whose second decoder layer and head are on the second device; all is fake while the test runs."""
    model = deepcopy(make_model(kind, "none", torch.float32))
    with FakeTensorMode(), torch.inference_mode():
        split(model, kind)
        yield make_backend(model, wide_models.family_of(model))


def split(model: Any, kind: str) -> None:
    put(model, FIRST)
    text = model.language_model
    put(text.decoder.block[1] if kind.startswith("t5") else text.model.decoder.layers[1], SECOND)
    put(text.lm_head, SECOND)


def put(module: torch.nn.Module, device: torch.device) -> None:
    """Give every weight of `module` a fake one on `device`."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = torch.nn.Parameter(torch.empty(weight.shape, device=device), False)


def run_step(backend: Backend, num_beams: int) -> tuple[Group, torch.Tensor]:
    """Prefill two requests and decode a step."""
    books = make_books(32)
    options = DecodingOptions(num_beams=num_beams, max_new_tokens=4)
    prompts = ((2,), (2, 9))
    requests = [Request(index, ImageInput(b"", b""), ids, options) for index, ids in enumerate(prompts)]
    sequences = [make_sequence(request, backend, books) for request in requests]
    group = Group(sequences[0].shape, backend.geometry)
    group.resize(2)
    span = group.admit(sequences)
    group.prepare(span)
    image_tokens = torch.zeros(wide_models.NUM_QUERIES, 32, device=backend.geometry.device)
    backend.prefill(span, [image_tokens, image_tokens])
    return group, backend.decode([Step(span)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_activations_move_and_keys_and_values_stay_with_their_layer(backend: Backend, num_beams: int) -> None:
    group, logits = run_step(backend, num_beams)
    assert [layer.device for layer in group.cache._layers] == [FIRST, SECOND]
    assert (logits.device, logits.shape) == (FIRST, (2 * num_beams, wide_models.VOCAB_SIZE))


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_without_moving_the_devices_would_be_mixed(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake devices notice, so the test above can fail."""
    monkeypatch.setattr(type(backend.geometry), "device_of", lambda self, layer: self.device)
    with pytest.raises(RuntimeError, match=r"(?i)device"):
        run_step(backend, 1)
