"""The body of a chat completion: the OpenAI fields that mean something to BLIP-2, and some of our own.

`None` means "not given". What no caller can do without is refused by name; what else is unknown here is ignored and
named. The values that ask for nothing are taken without a word, because clients send them unasked.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import validate_fields, whole_characters
from blip2_serve.api.openai.habits import eased
from blip2_serve.errors import InvalidField
from blip2_serve.families import Family
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS, DecodingOptions, draws_beams
from blip2_serve.tasks.completion import OutputOptions
from blip2_serve.tasks.prompt import TaskName

EXAMPLE = '{"model": "blip2", "messages": [{"role": "user", "content": [...]}]}'
_MAX_STOP_CHARACTERS = 256
_MAX_STOPS = 4
_STOP_TEXT = {"type": "string", "maxLength": _MAX_STOP_CHARACTERS}
_STOP = {"anyOf": [_STOP_TEXT, {"type": "array", "items": _STOP_TEXT, "maxItems": _MAX_STOPS}]}

# By field: the values that ask for nothing, and the reason for refusing any other; no caller can do without.
REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "audio": ((), "BLIP-2 writes text"),
    "function_call": (("none", "auto"), "BLIP-2 calls no functions"),
    "grammar": ((), "BLIP-2 follows no grammar"),
    "guided_choice": ((), "POST /choose ranks given answers"),
    "guided_grammar": ((), "BLIP-2 follows no grammar"),
    "guided_json": ((), "BLIP-2 writes plain text and no JSON"),
    "guided_regex": ((), "BLIP-2 follows no grammar"),
    "logit_bias": (({},), "tokens cannot be favoured"),
    "modalities": ((["text"],), "BLIP-2 writes text"),
    "response_format": (({"type": "text"},), "BLIP-2 writes plain text and no JSON"),
    "structured_outputs": (({},), "BLIP-2 writes plain text and no JSON"),
    "tool_choice": (("none", "auto"), "BLIP-2 calls no tools"),
}
# The same of fields that are ignored, and named, with any other value.
IGNORED: dict[str, tuple[tuple[object, ...], str]] = {
    "frequency_penalty": ((0,), "use repetition_penalty"),
    "functions": (([],), "BLIP-2 calls no functions"),
    "parallel_tool_calls": ((True, False), "BLIP-2 calls no tools"),
    "prediction": ((), "nothing is predicted"),
    "presence_penalty": ((0,), "use repetition_penalty"),
    "reasoning_effort": (("none",), "BLIP-2 does not reason"),
    "service_tier": (("auto", "default"), "there is one tier"),
    "store": ((False,), "nothing is stored"),
    "tools": (([],), "BLIP-2 calls no tools"),
    "verbosity": ((), "use max_tokens"),
    "web_search_options": ((), "BLIP-2 searches nothing"),
}
# The caller's notes about itself, which even a strict server takes; named, for they go nowhere.
NOTES = ("metadata", "prompt_cache_key", "safety_identifier", "user")


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = Field(False, description="count the tokens in a chunk of its own, before [DONE]")
    include_obfuscation: bool = Field(False, description="changes nothing; streams are not padded")


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
    no_repeat_ngram_size: int = Field(0, ge=0, le=MAX_NEW_TOKENS, description="no n-gram of this size twice; 0 for off")
    min_tokens: int = Field(0, ge=0, le=MAX_NEW_TOKENS, description="fewest tokens to write, at most max_tokens")
    min_p: float = Field(0.0, ge=0, le=1, description="least probability, as a share of the best token's; 0 for off")
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
    def output(self) -> OutputOptions:
        """Stop texts, how many likely tokens to report at each place, and whether answers are guarded."""
        return OutputOptions(tuple(self.stop), self.top_logprobs, self.guards)

    @property
    def limit(self) -> int | None:
        """Most tokens to write, by either name."""
        return self.max_completion_tokens or self.max_tokens

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
        options = DecodingOptions(
            **{
                **(family.vqa_defaults if task == "vqa" else family.caption_defaults),
                **{name: value for name, value in given.items() if value is not None},
                "num_beams": self.num_beams,
                "do_sample": self.temperature > 0,
                "top_p": self.top_p,
                "top_k": self.top_k,
                "min_p": self.min_p,
                "min_new_tokens": self.min_tokens,
                "no_repeat_ngram_size": self.no_repeat_ngram_size,
                "seed": self.seed,
                "num_return_sequences": self.n,
            }
        )
        if options.min_new_tokens > options.max_new_tokens:
            raise InvalidField(
                f"min_tokens is above max_tokens, {options.max_new_tokens}: lower it.", about="min_tokens"
            )
        return options


def validate_request(values: dict[str, object], ignored: Ignored) -> ChatRequest:
    """Validate a JSON body from which nulls have been dropped.

    Raises:
        InvalidField: a field is missing, out of bounds, unsupported or contradicts another; `about` names it.
    """
    _refuse(values)
    asked = eased(values, ignored)
    for name in asked.keys() - ChatRequest.model_fields.keys() - REFUSED.keys():
        _leave_out(name, asked[name], ignored)
    request = validate_fields(ChatRequest, {name: asked[name] for name in ChatRequest.model_fields if name in asked})
    _check_together(request)
    return request


def _refuse(values: dict[str, object]) -> None:
    for name in values.keys() & REFUSED.keys():
        neutral, reason = REFUSED[name]
        if not _is_one_of(values[name], neutral):
            raise InvalidField(f"{name} asks for what is not done here ({reason}): leave it out.", about=name)


def _leave_out(name: str, value: object, ignored: Ignored) -> None:
    if name in NOTES:
        ignored.mention(name, "it goes nowhere")
        return
    neutral, reason = IGNORED.get(name, ((), "there is no such field"))
    if not _is_one_of(value, neutral):
        ignored.leave_out(name, reason)


def _is_one_of(value: object, neutral: tuple[object, ...]) -> bool:
    """Compare as JSON does: in Python True == 1, in JSON true is not 1."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in neutral)


def _check_together(request: ChatRequest) -> None:
    draws, beams = request.temperature > 0, request.num_beams > 1
    clashes = [
        (
            draws_beams(request.num_beams, draws),
            "num_beams",
            "above 1 searches and a temperature above 0 draws: give one of the two",
        ),
        (beams and request.n > 1, "n", "above 1 needs num_beams 1 and a temperature above 0"),
        (request.guards and request.stream, "guards", "looks at whole answers: leave out stream"),
        (beams and request.stream, "stream", "needs num_beams 1: beams are ranked when all are done"),
        (beams and request.logprobs, "logprobs", "needs num_beams 1"),
        (beams and bool(request.stop), "stop", "needs num_beams 1"),
        (request.n > 1 and not draws, "n", "above 1 needs a temperature above 0: without it all answers are the same"),
    ]
    for clash, name, reason in clashes:
        if clash:
            raise InvalidField(f"{name} {reason}.", about=name)
