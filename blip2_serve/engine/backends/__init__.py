"""The two families of language models behind one small protocol (base.py)."""

from typing import Any

from blip2_serve.engine.backends.base import Backend
from blip2_serve.engine.backends.opt import OptBackend
from blip2_serve.engine.backends.t5 import T5Backend

__all__ = ["Backend", "make_backend"]


def make_backend(model: Any) -> Backend:
    """The backend for a `Blip2ForConditionalGeneration`; raises ValueError for a family that has none."""
    config = model.config
    kinds: dict[str, type[OptBackend] | type[T5Backend]] = {"opt": OptBackend, "t5": T5Backend}
    kind = kinds.get(config.text_config.model_type)
    if kind is None:
        raise ValueError(f"no backend for a {config.text_config.model_type} language model; known: {sorted(kinds)}")
    return kind(model.language_model, image_token_id=config.image_token_id, num_query_tokens=config.num_query_tokens)
