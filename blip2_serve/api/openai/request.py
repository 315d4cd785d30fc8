"""The body of a chat completion: the OpenAI fields that mean something to BLIP-2, and five of our own.

`None` means "not given". A field that asks for something unsupported is refused by name, but its neutral values are
accepted, because clients send them unasked.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from blip2_serve.api.native.fields import validate_fields, whole_characters
from blip2_serve.errors import InvalidField
from blip2_serve.families import Family
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS, DecodingOptions, draws_beams
from blip2_serve.tasks.completion import OutputOptions
from blip2_serve.tasks.prompt import TaskName

EXAMPLE = '{"model": "blip2", "messages": [{"role": "user", "content": [...]}]}'
_MAX_STOP_CHARACTERS = 256
_MAX_STOPS = 4
_STOP_TEXT = {"type": "string", "minLength": 1, "maxLength": _MAX_STOP_CHARACTERS}
_STOP = {"anyOf": [_STOP_TEXT, {"type": "array", "items": _STOP_TEXT, "maxItems": _MAX_STOPS}]}

# By field: the accepted values, which ask for nothing, and the reason for refusing any other.
NEUTRAL: dict[str, tuple[tuple[object, ...], str]] = {
    "audio": ((), "BLIP-2 writes text"),
    "frequency_penalty": ((0,), "use repetition_penalty"),
    "function_call": (("none", "auto"), "BLIP-2 calls no functions"),
    "functions": (([],), "BLIP-2 calls no functions"),
    "logit_bias": (({},), "tokens cannot be favoured"),
    "modalities": ((["text"],), "BLIP-2 writes text"),
    "parallel_tool_calls": ((True, False), "BLIP-2 calls no tools"),
    "prediction": ((), "nothing is predicted"),
    "presence_penalty": ((0,), "use repetition_penalty"),
    "reasoning_effort": (("none",), "BLIP-2 does not reason"),
    "response_format": (({"type": "text"},), "BLIP-2 writes plain text and no JSON"),
    "service_tier": (("auto", "default"), "there is one tier"),
    "store": ((False,), "nothing is stored"),
    "tool_choice": (("none", "auto"), "BLIP-2 calls no tools"),
    "tools": (([],), "BLIP-2 calls no tools"),
    "verbosity": ((), "use max_tokens"),
    "web_search_options": ((), "BLIP-2 searches nothing"),
}
# The caller's notes about itself; any value is accepted and ignored.
NOTES = ("metadata", "prompt_cache_key", "safety_identifier", "user")


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = Field(False, description="count the tokens in a chunk of its own, before [DONE]")
    include_obfuscation: Literal[False] = Field(False, description="streams are not padded")


class ChatRequest(BaseModel):
    """A conversation about one picture."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description='"blip2", or the name that /v1/models lists')
    messages: list[Any] = Field(
        min_length=1,
        description="user and assistant by turns; one image_url part in one of the user's; no text asks for a caption",
    )
    task: Literal["auto", "caption", "vqa", "prefix"] = Field(
        "auto",
        description='auto: without text a caption, else the chat ("Question: ... Answer:"); caption: no text; vqa: one'
        " question in the family's own template; prefix: the text is how the caption begins",
    )
    stream: bool = Field(False, description="send the answer as it grows, as server-sent events")
    stream_options: StreamOptions | None = Field(None, description="only with stream")
    n: int = Field(1, ge=1, le=MAX_NUM_BEAMS, description="how many answers; above 1 needs a temperature above 0")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_NEW_TOKENS, description="most tokens to write, 1 to 256; default 30, for vqa 10"
    )
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_NEW_TOKENS, description="the newer name of max_tokens")
    temperature: float = Field(0.0, ge=0, le=2, description="0: the best answer; above: drawn at random")
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability to draw from; read only when drawing")
    top_k: int = Field(0, ge=0, le=1_000_000, description="number of tokens to draw from, 0 for all")
    seed: int | None = Field(None, ge=0, lt=2**63, description="the same seed draws the same text")
    stop: Annotated[list[str], WithJsonSchema(_STOP)] = Field(
        [], max_length=_MAX_STOPS, description="a text, or up to 4, that end the answer before them"
    )
    logprobs: bool = Field(False, description="tell the log-probability of each token")
    top_logprobs: int = Field(0, ge=0, le=20, description="likeliest tokens to tell at each place; only with logprobs")
    num_beams: int = Field(1, ge=1, le=MAX_NUM_BEAMS, description="beams of the search; not with stream, n, logprobs")
    length_penalty: float | None = Field(
        None, ge=-100, le=100, description="above 0 favours long answers of beams; default 1, for vqa 0 (T5: -1)"
    )
    repetition_penalty: float = Field(1.0, gt=0, le=100, description="above 1 avoids repetition")

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
    def output(self) -> OutputOptions:
        """Stop texts, and how many likely tokens to report at each place."""
        return OutputOptions(tuple(self.stop), self.top_logprobs)

    def options(self, task: TaskName, family: Family) -> DecodingOptions:
        """Build the decoding options; lengths and penalties not given are those of the task's own endpoint."""
        given = {
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "length_penalty": self.length_penalty,
            "repetition_penalty": self.repetition_penalty if "repetition_penalty" in self.model_fields_set else None,
            "temperature": self.temperature or None,
        }
        return DecodingOptions(
            **{
                **(family.vqa_defaults if task == "vqa" else family.caption_defaults),
                **{name: value for name, value in given.items() if value is not None},
                "num_beams": self.num_beams,
                "do_sample": self.temperature > 0,
                "top_p": self.top_p,
                "top_k": self.top_k,
                "seed": self.seed,
                "num_return_sequences": self.n,
            }
        )


def validate_request(values: dict[str, object]) -> ChatRequest:
    """Validate a JSON body from which nulls have been dropped.

    Raises:
        InvalidField: a field is missing, unknown, out of bounds, unsupported or contradicts another; `about` names it.
    """
    asked = {name: value for name, value in values.items() if not _asks_for_nothing(name, value)}
    request = validate_fields(ChatRequest, asked)
    _check_together(request)
    return request


def _asks_for_nothing(name: str, value: object) -> bool:
    if name in NOTES:
        return True
    if name not in NEUTRAL:
        return False
    values, reason = NEUTRAL[name]
    # In Python True == 1; in JSON, true is not 1.
    if not any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in values):
        raise InvalidField(f"{name} asks for what is not done here ({reason}): leave it out.", about=name)
    return True


def _check_together(request: ChatRequest) -> None:
    draws, beams = request.temperature > 0, request.num_beams > 1
    limits = {request.max_tokens, request.max_completion_tokens} - {None}
    clashes = [
        (len(limits) > 1, "max_tokens", "and max_completion_tokens are two names of one limit: give one"),
        (request.stream_options is not None and not request.stream, "stream_options", "needs stream: true"),
        (request.top_logprobs > 0 and not request.logprobs, "top_logprobs", "needs logprobs: true"),
        (
            draws_beams(request.num_beams, draws),
            "num_beams",
            "above 1 searches and a temperature above 0 draws: give one of the two",
        ),
        (beams and request.n > 1, "n", "above 1 needs num_beams 1 and a temperature above 0"),
        (beams and request.stream, "stream", "needs num_beams 1: beams are ranked when all are done"),
        (beams and request.logprobs, "logprobs", "needs num_beams 1"),
        (beams and bool(request.stop), "stop", "needs num_beams 1"),
        (request.n > 1 and not draws, "n", "above 1 needs a temperature above 0: without it all answers are the same"),
    ]
    for clash, name, reason in clashes:
        if clash:
            raise InvalidField(f"{name} {reason}.", about=name)
