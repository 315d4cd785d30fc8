"""Rows fit into memory, and pools keep their contents when they grow, shrink and close up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from blip2_serve.engine.cache.kv_cache import MAX_ROWS, CacheGeometry, KVCache, rows_that_fit
from blip2_serve.engine.cache.rows import CELLS_PER_ROW

TINY = CacheGeometry(2, 2, 3, torch.float32, torch.device("cpu"))


def test_rows_are_sized_from_free_memory_within_bounds() -> None:
    opt = CacheGeometry(32, 32, 80, torch.float16, torch.device("cpu"))
    assert opt.cell_bytes == 320 * 1024
    assert rows_that_fit(opt, 100 * CELLS_PER_ROW * opt.cell_bytes) == 100
    assert rows_that_fit(opt, 1 << 50) == MAX_ROWS
    assert rows_that_fit(opt, 0) == 16


def test_blocks_keep_their_content_when_the_pool_is_resized_or_closes_up() -> None:
    cache = KVCache(TINY, cells=4)
    cache.resize(3)
    states = torch.arange(3 * 2 * TINY.width, dtype=torch.float32).view(3, 2, -1)
    cache.write_prefix(1, 0, 3, states)
    cache.write(1, torch.tensor([4 * 2 + 3]), torch.full((1, TINY.width), 7.0))
    cache.resize(5)
    cache.move(2, 0, 4)
    cache.resize(1)
    keys, values = cache.read(1, 0, 1, 0, 4)
    assert keys.shape == (1, 2, 4, 3)
    stored = torch.cat([keys.transpose(1, 2).flatten(2), values.transpose(1, 2).flatten(2)], dim=2)[0]
    assert torch.equal(stored[:2], states[2])
    assert torch.equal(stored[2], torch.zeros(TINY.width))
    assert torch.equal(stored[3], torch.full((TINY.width,), 7.0))
    assert not cache.read(0, 0, 1, 0, 4)[0].any()


class Memory:
    """Lets `calls` calls of a function pass; the next one finds no memory."""

    def __init__(self, function: Callable[..., torch.Tensor], calls: int) -> None:
        self._function = function
        self._calls_left = calls

    def __call__(self, *arguments: Any) -> torch.Tensor:
        self._calls_left -= 1
        if self._calls_left < 0:
            raise torch.OutOfMemoryError("out of memory")
        return self._function(*arguments)


def test_a_pool_that_cannot_grow_in_all_layers_grows_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache(TINY, cells=4)
    cache.resize(2)
    states = torch.arange(2 * 3 * TINY.width, dtype=torch.float32).view(2, 3, -1)
    cache.write_prefix(0, 0, 2, states)
    monkeypatch.setattr(cache, "_zeros", Memory(cache._zeros, calls=1))
    with pytest.raises(torch.OutOfMemoryError):
        cache.resize(3)
    assert [len(cache.read(layer, 0, 9, 0, 4)[0]) for layer in range(2)] == [2, 2]
    assert torch.equal(cache.read(0, 0, 2, 0, 3)[0].transpose(1, 2).flatten(2), states[..., : TINY.width // 2])


def test_a_pool_shrinks_in_all_layers_even_where_there_is_no_memory_to_copy_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = KVCache(TINY, cells=4)
    cache.resize(3)
    monkeypatch.setattr(torch.Tensor, "clone", Memory(torch.Tensor.clone, calls=1))
    monkeypatch.setattr(torch, "zeros", Memory(torch.zeros, calls=1))
    cache.resize(1)
    assert [len(cache.read(layer, 0, 9, 0, 4)[0]) for layer in range(2)] == [1, 1]
