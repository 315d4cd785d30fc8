"""The two families of language models behind one small protocol (base.py)."""

from typing import Any

from blip2_serve.engine.backends.base import Backend
from blip2_serve.engine.backends.opt import OptBackend
from blip2_serve.engine.backends.t5 import T5Backend
from blip2_serve.families import Family

__all__ = ["Backend", "make_backend"]


_BACKENDS: dict[str, type[OptBackend] | type[T5Backend]] = {"opt": OptBackend, "t5": T5Backend}


def make_backend(model: Any, family: Family) -> Backend:
    """The decoder of a BLIP-2 model of this family."""
    config = model.config
    return _BACKENDS[family.backend](
        model.language_model, image_token_id=config.image_token_id, num_query_tokens=config.num_query_tokens
    )
