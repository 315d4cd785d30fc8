"""No decoder: a server that only matches pictures with texts."""

from collections.abc import Sequence

import torch

from blip2_serve.engine.cache.group import Span, Step
from blip2_serve.engine.cache.kv_cache import CacheGeometry
from blip2_serve.engine.sequence import Prefix
from blip2_serve.errors import UnknownModel

NO_WRITER = "This server has no model that writes text: set BLIP2_MODEL, or use /embed and /match."


class AbsentBackend:
    """Stands where a language model would, and refuses every request for text."""

    vocab_size = 1
    end_ids: tuple[int, ...] = ()
    max_length = 1

    def __init__(self, device: torch.device) -> None:
        self.geometry = CacheGeometry(0, 0, 0, torch.float32, device)

    def prefix(self, prompt_ids: tuple[int, ...]) -> Prefix:
        """Raise UnknownModel."""
        raise UnknownModel(NO_WRITER)

    def prefill(self, span: Span, image_tokens: Sequence[torch.Tensor]) -> None:
        """Raise UnknownModel."""
        raise UnknownModel(NO_WRITER)

    def decode(self, steps: Sequence[Step]) -> torch.Tensor:
        """Raise UnknownModel."""
        raise UnknownModel(NO_WRITER)
