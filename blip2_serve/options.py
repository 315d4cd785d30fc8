"""How to decode one request: transformers' option names, semantics and bounds, in one frozen object."""

from dataclasses import dataclass
from typing import Literal

MAX_NEW_TOKENS = 256
MAX_NUM_BEAMS = 16

FinishReason = Literal["stop", "length"]


def draws_beams(num_beams: int, do_sample: bool) -> bool:
    """True for the one combination that is refused: beams are searched, never drawn. Each edge words its refusal."""
    return do_sample and num_beams > 1


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Decoding options with transformers' meaning (`GenerationConfig`); the defaults are LAVIS's for captions.

    Built by `api.fields` from a request, where bounds are checked; here they are taken for granted.
    """

    max_new_tokens: int = 30
    min_new_tokens: int = 0
    num_beams: int = 5
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 50
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    seed: int | None = None
    num_return_sequences: int = 1
    early_stopping: bool | Literal["never"] = False
