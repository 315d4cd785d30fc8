"""Quantise the language model's linear layers with bitsandbytes, as transformers' guides to BLIP-2 do.

Vision tower, Q-Former, their projection, embeddings and head keep the compute dtype, so image tokens are those of the
unquantised model. Savings and costs: docs/quantisation.md.
"""

import logging
import math
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from blip2_serve.config import Settings
from blip2_serve.errors import StartupError
from blip2_serve.families import Architecture, Family

REQUIREMENTS = "requirements-quantize.txt"
_LIBRARIES = ("bitsandbytes", "accelerate")
_INT4_BLOCK = 64  # numbers that share a scale; bitsandbytes' product on CPUs wants whole blocks
_KEPT = ["vision_model", "qformer", "language_projection", "lm_head", "project_in", "project_out"]


def check_quantization(settings: Settings, family: Family, text_config: Any) -> None:
    """Check that the libraries are there, without importing them, and that the language model's widths fit.

    Raises:
        StartupError: quantisation is asked for and cannot be done.
    """
    if settings.quantize == "none":
        return
    name = f"BLIP2_QUANTIZE={settings.quantize!r}"
    missing = [library for library in _LIBRARIES if find_spec(library) is None]
    if missing:
        raise StartupError(
            f"{name} needs {' and '.join(missing)}: run `pip install -r {REQUIREMENTS}`, or set BLIP2_QUANTIZE=none."
        )
    odd = [width for width in _packed_widths(family, text_config) if width % _INT4_BLOCK]
    if settings.quantize == "int4" and odd:
        raise StartupError(
            f"{name} packs blocks of {_INT4_BLOCK} numbers, and this language model has layers {odd[0]} wide:"
            " use int8 or none."
        )


def _packed_widths(family: Family, text_config: Any) -> list[int]:
    """Input widths of the packed layers."""
    return [math.prod(getattr(text_config, name) for name in names) for names in family.packed_widths]


def quantization_config(bits: str, family: Architecture, dtype: torch.dtype) -> BitsAndBytesConfig:
    """Configure `from_pretrained` for `bits` "int8" (LLM.int8) or "int4" (NF4, multiplied in `dtype`)."""
    # It logs missing optional kernels when imported, and casts at the first product; neither is news.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    kept = [*_KEPT, *family.unpacked_layers]
    if bits == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=kept
    )
