"""Decoding options of one request: transformers' names and semantics, in one frozen object, with our bounds."""

from dataclasses import dataclass, field
from typing import Any, Literal

MAX_NEW_TOKENS = 256
MAX_NUM_BEAMS = 16

FinishReason = Literal["stop", "length"]


def draws_beams(num_beams: int, do_sample: bool) -> bool:
    """True for sampling with several beams, which every protocol refuses in its own words: beams are only searched."""
    return do_sample and num_beams > 1


def _only(way: Literal["beams", "sampling"], default: float) -> Any:
    """An option that transformers reads, and accepts without a warning, in this way to decode only."""
    return field(default=default, metadata={"only": way})


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Decoding options as in transformers' `GenerationConfig`; the defaults are LAVIS's for captions.

    Not validated here: `api.native.fields`, `api.openai.writing` and the command line check the bounds.
    """

    max_new_tokens: int = 30
    min_new_tokens: int = 0
    num_beams: int = 5
    do_sample: bool = False
    temperature: float = _only("sampling", 1.0)
    top_p: float = _only("sampling", 0.9)
    top_k: int = _only("sampling", 50)
    min_p: float = _only("sampling", 0.0)
    repetition_penalty: float = 1.0
    length_penalty: float = _only("beams", 1.0)
    no_repeat_ngram_size: int = 0
    seed: int | None = None
    num_return_sequences: int = 1
    early_stopping: bool | Literal["never"] = False
