"""Ollama's `options` as decoding options; what configures other engines is ignored and named."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from blip2_serve.api.leniency import Ignored, number_of
from blip2_serve.api.native.fields import whole_characters
from blip2_serve.families import Family
from blip2_serve.options import MAX_NEW_TOKENS, DecodingOptions

_MAX_STOPS = 16
_MAX_STOP_CHARACTERS = 256
# Values that ask for nothing.
_NEUTRAL = {"frequency_penalty": 0, "mirostat": 0, "presence_penalty": 0, "tfs_z": 1, "typical_p": 1}


class Options(BaseModel):
    """The options that mean something to BLIP-2, by Ollama's names; those of drawing have Ollama's defaults."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    num_predict: int | None = Field(
        None, description=f"most tokens to write, up to {MAX_NEW_TOKENS}; below 1 as many as that; default 30"
    )
    temperature: float = Field(0.0, ge=0, le=100, description="0: the best answer; above: drawn at random")
    top_p: float = Field(0.9, ge=0, le=1, description="share of probability to draw from; 0: the best answer")
    top_k: int = Field(40, ge=-1, le=1_000_000, description="number of tokens to draw from; 0 or -1 for all")
    min_p: float = Field(0.0, ge=0, le=1, description="least probability, as a share of the best token's; 0 for off")
    seed: int | None = Field(
        None, gt=-(2**63), lt=2**63, description="the same seed draws the same text; below 0 any seed"
    )
    repeat_penalty: float | None = Field(None, gt=0, le=100, description="above 1 avoids repetition")
    stop: list[str] = Field([], max_length=_MAX_STOPS, description="texts that end the answer before them")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, stop: object) -> object:
        stops = [stop] if isinstance(stop, str) else stop
        return [text for text in stops if text != ""] if isinstance(stops, list) else stops

    @field_validator("stop")
    @classmethod
    def _stops_are_texts(cls, stop: list[str]) -> list[str]:
        if any(len(whole_characters(text)) > _MAX_STOP_CHARACTERS for text in stop):
            raise ValueError(f"a stop text has up to {_MAX_STOP_CHARACTERS} characters")
        return stop

    def decoding(self, family: Family) -> DecodingOptions:
        """Fill in the family's defaults for what is not given."""
        limit = self.num_predict
        given = {
            "max_new_tokens": MAX_NEW_TOKENS if limit is not None and limit < 1 else limit,
            "repetition_penalty": self.repeat_penalty,
            "temperature": self.temperature or None,
            "seed": None if self.seed is None or self.seed < 0 else self.seed,
        }
        return DecodingOptions(
            **{
                **family.caption_defaults,
                **{name: value for name, value in given.items() if value is not None},
                "num_beams": 1,
                "do_sample": self.temperature > 0 and self.top_p > 0,
                "top_p": self.top_p or 1.0,
                "top_k": max(self.top_k, 0),
                "min_p": self.min_p,
            }
        )


def known_options(values: dict[str, Any], ignored: Ignored) -> dict[str, Any]:
    """Keep the options that `Options` has, and cap the number of tokens.

    Raises:
        InvalidField: the server is strict, and an option asks for what is not done here.
    """
    for name, value in values.items():
        if name not in Options.model_fields and value is not None and value != _NEUTRAL.get(name):
            ignored.leave_out(f"options.{name}", "BLIP-2 has no such option")
    known = {name: values[name] for name in Options.model_fields if values.get(name) is not None}
    limit = number_of(known.get("num_predict"))
    if limit is not None and limit > MAX_NEW_TOKENS:
        ignored.tolerate(f"at most {MAX_NEW_TOKENS} tokens are written", at="options.num_predict")
        known["num_predict"] = MAX_NEW_TOKENS
    return known
