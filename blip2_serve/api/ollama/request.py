"""The bodies of /api/generate and /api/chat: Ollama's fields that mean something to BLIP-2.

What no caller can do without is refused by name; what else is unknown here is ignored and named. The values that ask
for nothing are taken without a word, because clients send them unasked.
"""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import MAX_TURNS, validate_fields, whole_characters
from blip2_serve.api.ollama.options import Options, known_options
from blip2_serve.errors import InvalidField
from blip2_serve.tasks.completion import OutputOptions

GENERATE_EXAMPLE = '{"model": "blip2", "prompt": "...", "images": ["<base64>"]}'
CHAT_EXAMPLE = '{"model": "blip2", "messages": [{"role": "user", "content": "...", "images": ["<base64>"]}]}'

# By field: the values that ask for nothing, and the reason why others are ignored.
IGNORED: dict[str, tuple[tuple[object, ...], str]] = {
    "context": (([],), "BLIP-2 keeps no conversation as tokens: send it to /api/chat"),
    "format": (("",), "BLIP-2 writes plain text and no JSON"),
    "suffix": (("",), "BLIP-2 fills no gaps"),
    "system": (("",), "BLIP-2 was not trained to follow instructions"),
    "template": (("",), "BLIP-2 has a template of its own; raw sends the prompt as it is"),
    "think": ((False,), "BLIP-2 does not reason"),
    "tools": (([],), "BLIP-2 calls no tools"),
}
# What concerns the server's memory, or a context that is too long; even a strict server takes it.
NOTES = ("keep_alive", "shift", "truncate")
RequestT = TypeVar("RequestT", bound="_Request")


class _Request(BaseModel):
    """The fields that both endpoints have."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: Annotated[str, AfterValidator(whole_characters)] = Field(
        max_length=256, description='"blip2", or a name that /api/tags lists, with or without ":latest"'
    )
    stream: bool = Field(True, description="send the answer as it grows, an object a line")
    options: Options = Field(Options.model_validate({}), description="how to decode")
    logprobs: bool = Field(False, description="tell the log-probability of each token")
    top_logprobs: int = Field(0, ge=0, le=20, description="likeliest tokens to tell at each place; only with logprobs")
    guards: bool = Field(False, description="make an answer again that loops or is empty; not with stream")
    keep_alive: Any = Field(None, description="ignored: the model stays")

    @property
    def unloads(self) -> bool:
        """True if the client wishes the model out of memory."""
        return self.keep_alive in (0, "0", "0s")

    @property
    def output(self) -> OutputOptions:
        """Stop texts, how many likely tokens to report at each place, and whether answers are guarded."""
        return OutputOptions(tuple(self.options.stop), self.top_logprobs if self.logprobs else 0, self.guards)


class GenerateRequest(_Request):
    """A picture and a prompt."""

    prompt: str = Field("", description="a question; without one, a caption is asked for")
    images: list[Any] = Field([], description="one picture: base64, a data: URI, a URL, or image-id: and an X-Image-Id")
    raw: bool = Field(False, description="read the prompt as it is, without the template of a question")


class ChatRequest(_Request):
    """A conversation about one picture."""

    messages: list[Any] = Field(
        [],
        max_length=2 * MAX_TURNS,
        description="user and assistant by turns; the last picture in the images of a user's is meant",
    )


def read_request(kind: type[RequestT], values: dict[str, Any], ignored: Ignored) -> RequestT:
    """Validate a JSON body from which nulls have been dropped.

    Raises:
        InvalidField: a field is missing, out of bounds or unsupported; `about` names it.
    """
    known = {name: values[name] for name in kind.model_fields if name in values}
    for name in values:
        if name in NOTES:
            ignored.mention(name, "it goes nowhere")
        elif name not in known:
            _leave_out(name, values[name], ignored)
    options = values.get("options")
    if isinstance(options, dict):
        known["options"] = known_options(options, ignored)
    request = validate_fields(kind, known)
    if request.guards and request.stream:
        raise InvalidField('guards looks at whole answers: send "stream": false.', about="guards")
    return request


def _leave_out(name: str, value: object, ignored: Ignored) -> None:
    if name == "format" and isinstance(value, dict):
        raise InvalidField("format asks for JSON by a schema, and BLIP-2 writes plain text: leave it out.", about=name)
    neutral, reason = IGNORED.get(name, ((), "there is no such field"))
    if value not in neutral:
        ignored.leave_out(name, reason)


def body_schema(kind: type[_Request]) -> dict[str, Any]:
    """Build the JSON Schema of a body with every $ref inlined: FastAPI collects only the models it parses itself."""
    schema = kind.model_json_schema()
    schema.pop("$defs")
    fields = schema["properties"]
    options = Options.model_json_schema()
    fields["options"] = {**options, "additionalProperties": {"description": "ignored"}}
    if "messages" in fields:
        fields["messages"]["items"] = _MESSAGE
    if "images" in fields:
        fields["images"]["items"] = {"type": "string"}
    fields.update({name: {"description": f"ignored; {reason}"} for name, (_, reason) in IGNORED.items()})
    fields["format"] = {"enum": ["", "json", None], "description": f"ignored; {IGNORED['format'][1]}"}
    fields.update({name: {"description": "ignored"} for name in NOTES})
    return {**schema, "additionalProperties": {"description": "ignored"}}


_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["user", "assistant", "system", "tool"], "description": "system and tool are ignored"},
        "content": {"type": "string"},
        "images": {"type": "array", "items": {"type": "string"}},
    },
}
