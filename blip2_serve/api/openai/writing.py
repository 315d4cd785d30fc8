"""The fields that chat completions, responses and completions share, and what they ask of the decoder.

`None` means "not given".
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from blip2_serve.api.native.fields import whole_characters
from blip2_serve.errors import InvalidField
from blip2_serve.families import Family
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS, DecodingOptions, draws_beams
from blip2_serve.tasks.completion import OutputOptions
from blip2_serve.tasks.prompt import TaskName

MAX_LIKELY = 20
_MAX_STOP_CHARACTERS = 256
_MAX_STOPS = 4
_STOP_TEXT = {"type": "string", "maxLength": _MAX_STOP_CHARACTERS}
_STOP = {"anyOf": [_STOP_TEXT, {"type": "array", "items": _STOP_TEXT, "maxItems": _MAX_STOPS}]}


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = Field(False, description="count the tokens in a chunk of its own, before [DONE]")
    include_obfuscation: bool = Field(False, description="changes nothing; streams are not padded")


class WritingRequest(BaseModel):
    """How to write, and how the answer is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # What the protocol calls the most tokens to write, and the wish for log-probabilities.
    limit_field: ClassVar[str] = "max_tokens"
    logprobs_field: ClassVar[str] = "logprobs"

    model: str = Field(description='"blip2", or the name that /v1/models lists')
    stream: bool = Field(False, description="send the answer as it grows, as server-sent events")
    temperature: float = Field(0.0, ge=0, le=2, description="0: the best answer; above: drawn at random")
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability to draw from; read only when drawing")
    top_k: int = Field(0, ge=0, le=1_000_000, description="number of tokens to draw from, 0 for all")
    min_p: float = Field(0.0, ge=0, le=1, description="least probability, as a share of the best token's; 0 for off")
    seed: int | None = Field(None, ge=0, lt=2**63, description="the same seed draws the same text")
    stop: Annotated[list[str], WithJsonSchema(_STOP)] = Field(
        [], max_length=_MAX_STOPS, description="a text, or up to 4, that end the answer before them"
    )
    num_beams: int = Field(1, ge=1, le=MAX_NUM_BEAMS, description="beams of the search; not with stream, n, logprobs")
    length_penalty: float | None = Field(
        None, ge=-100, le=100, description="above 0 favours long answers of beams; default 1, for vqa 0 (T5: -1)"
    )
    repetition_penalty: float = Field(1.0, gt=0, le=100, description="above 1 avoids repetition")
    no_repeat_ngram_size: int = Field(0, ge=0, le=MAX_NEW_TOKENS, description="no n-gram of this size twice; 0 for off")
    min_tokens: int = Field(0, ge=0, le=MAX_NEW_TOKENS, description="fewest tokens to write, at most max_tokens")
    guards: bool = Field(False, description="make an answer again that loops or is empty; not with stream")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    @field_validator("stop")
    @classmethod
    def _stops_are_texts(cls, stop: list[str]) -> list[str]:
        for text in stop:
            if not 0 < len(text) <= _MAX_STOP_CHARACTERS:
                raise ValueError(f"a stop text has 1 to {_MAX_STOP_CHARACTERS} characters")
            whole_characters(text)
        return stop

    @property
    def limit(self) -> int | None:
        """Most tokens to write."""
        raise NotImplementedError

    @property
    def num_answers(self) -> int:
        """How many answers are written."""
        return 1

    @property
    def num_likely(self) -> int:
        """How many likely tokens are told at each place."""
        return 0

    @property
    def tells_logprobs(self) -> bool:
        """True if tokens are told with their log-probabilities."""
        return False

    @property
    def output(self) -> OutputOptions:
        """Stop texts, how many likely tokens to report at each place, and whether answers are guarded."""
        return OutputOptions(tuple(self.stop), self.num_likely, self.guards)

    def options(self, task: TaskName, family: Family) -> DecodingOptions:
        """Build the decoding options; lengths and penalties not given are those of the task's own endpoint.

        Raises:
            InvalidField: more tokens have to be written than may.
        """
        given = {
            "max_new_tokens": self.limit,
            "length_penalty": self.length_penalty,
            "repetition_penalty": self.repetition_penalty if "repetition_penalty" in self.model_fields_set else None,
            "temperature": self.temperature or None,
        }
        defaults = family.vqa_defaults if task == "vqa" else family.caption_defaults
        told = {name: value for name, value in given.items() if value is not None}
        options = DecodingOptions(**{**defaults, **told, **self._always_told()})
        if options.min_new_tokens > options.max_new_tokens:
            raise InvalidField(
                f"min_tokens is above {self.limit_field}, {options.max_new_tokens}: lower it.", about="min_tokens"
            )
        return options

    def _always_told(self) -> dict[str, Any]:
        """Options whose defaults here are not those of our own endpoints."""
        return {
            "num_beams": self.num_beams,
            "do_sample": self.temperature > 0,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "min_new_tokens": self.min_tokens,
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
            "seed": self.seed,
            "num_return_sequences": self.num_answers,
        }

    def check_together(self) -> None:
        """Check fields that contradict each other.

        Raises:
            InvalidField: two do; `about` names the one to change.
        """
        draws, beams, several = self.temperature > 0, self.num_beams > 1, self.num_answers > 1
        clashes = [
            (
                draws_beams(self.num_beams, draws),
                "num_beams",
                "above 1 searches and a temperature above 0 draws: give one of the two",
            ),
            (beams and several, "n", "above 1 needs num_beams 1 and a temperature above 0"),
            (self.guards and self.stream, "guards", "looks at whole answers: leave out stream"),
            (beams and self.stream, "stream", "needs num_beams 1: beams are ranked when all are done"),
            (beams and self.tells_logprobs, self.logprobs_field, "needs num_beams 1"),
            (beams and bool(self.stop), "stop", "needs num_beams 1"),
            (several and not draws, "n", "above 1 needs a temperature above 0: without it all answers are the same"),
        ]
        for clash, name, reason in clashes:
            if clash:
                raise InvalidField(f"{name} {reason}.", about=name)
