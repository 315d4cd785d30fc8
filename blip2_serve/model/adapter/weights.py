"""A checkpoint's weights with an adapter merged in, as transformers loads and quantises them: each read when asked for.

That is how transformers reads safetensors, too, so memory is bounded alike, and weights are packed after merging.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import safe_open

from blip2_serve.model.adapter.merge import Merge, Read
from blip2_serve.model.adapter.names import Rename


class MergedWeight:
    """Stands for a slice of a file: `[...]` merges it and returns it in float32."""

    # transformers reads in several threads, and each would hold a layer three times over.
    _one_at_a_time = Lock()

    def __init__(self, merge: Merge, name: str, read: Mapping[str, Read]) -> None:
        self._merge, self._name, self._read = merge, name, read

    def __getitem__(self, _: Any) -> torch.Tensor:
        with self._one_at_a_time:
            return self._merge.weight(self._name, self._read)


def open_merged(merge: Merge, files: Sequence[Path], rename: Rename, opened: ExitStack) -> dict[str, Any]:
    """Return all weights of the model by name, as slices that are not read yet; `opened` closes the files.

    Weights that are tied in the base model are apart where the adapter changes one of them, as they are while an
    adapter is trained.
    """
    slices: dict[str, Any] = {}
    for file in files:
        weights = opened.enter_context(safe_open(file, framework="pt"))
        slices |= {rename(key): weights.get_slice(key) for key in weights.keys()}  # noqa: SIM118
    slices |= _untied(merge, slices)
    read: dict[str, Read] = {name: partial(weight.__getitem__, ...) for name, weight in slices.items()}
    return slices | {name: MergedWeight(merge, name, read) for name in merge.changed()}


def _untied(merge: Merge, slices: Mapping[str, Any]) -> dict[str, Any]:
    """Slices for the weights that files leave out because they are tied to one that the adapter changes, or to them."""
    tied: dict[str, str] = merge.model.all_tied_weights_keys
    changed = merge.changed()
    groups = {source: [source, *(name for name in tied if tied[name] == source)] for source in tied.values()}
    touched = [group for group in groups.values() if changed.intersection(group)]
    present = {name: slices[name] for group in touched for name in group if name in slices}
    return {
        name: next(present[other] for other in group if other in present)
        for group in touched
        for name in group
        if name not in present
    }
