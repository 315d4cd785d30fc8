"""How to decode one request: transformers' option names, semantics and bounds, in one frozen object."""

from dataclasses import dataclass, field
from typing import Any, Literal

MAX_NEW_TOKENS = 256
MAX_NUM_BEAMS = 16

FinishReason = Literal["stop", "length"]


def draws_beams(num_beams: int, do_sample: bool) -> bool:
    """True for the one combination that is refused: beams are searched, never drawn. Each edge words its refusal."""
    return do_sample and num_beams > 1


def _only(way: Literal["beams", "sampling"], default: float) -> Any:
    """An option that transformers reads, and accepts without a warning, in this way to decode only."""
    return field(default=default, metadata={"only": way})


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Decoding options with transformers' meaning (`GenerationConfig`); the defaults are LAVIS's for captions.

    Built by `api.fields` from a request, where bounds are checked; here they are taken for granted.
    """

    max_new_tokens: int = 30
    min_new_tokens: int = 0
    num_beams: int = 5
    do_sample: bool = False
    temperature: float = _only("sampling", 1.0)
    top_p: float = _only("sampling", 0.9)
    top_k: int = _only("sampling", 50)
    repetition_penalty: float = 1.0
    length_penalty: float = _only("beams", 1.0)
    no_repeat_ngram_size: int = 0
    seed: int | None = None
    num_return_sequences: int = 1
    early_stopping: bool | Literal["never"] = False
