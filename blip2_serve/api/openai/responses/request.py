"""The body of a response's request: what of it means something to BLIP-2, and some of our own."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, WithJsonSchema

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai import unsupported
from blip2_serve.api.openai.habits import eased
from blip2_serve.api.openai.messages import TASK, Task
from blip2_serve.api.openai.unsupported import Table, supported
from blip2_serve.api.openai.writing import MAX_LIKELY, WritingRequest
from blip2_serve.errors import InvalidField
from blip2_serve.options import MAX_NEW_TOKENS

EXAMPLE = '{"model": "blip2", "input": [{"role": "user", "content": [...]}]}'
_LOGPROBS = "message.output_text.logprobs"
_PLAIN: dict[str, object] = {"type": "text"}
_NOT_KEPT = "no conversation is kept here: send all of it as input"

REFUSED: Table = {
    **unsupported.REFUSED,
    "background": ((False,), "answers are not kept: wait for it, or stream"),
    "conversation": ((), _NOT_KEPT),
    "previous_response_id": ((), _NOT_KEPT),
    "prompt": ((), "no prompts are kept: send the text as input"),
}
IGNORED: Table = {
    **unsupported.IGNORED,
    "instructions": (("",), "BLIP-2 was not trained to follow instructions"),
    "max_tool_calls": ((), "BLIP-2 calls no tools"),
    "reasoning": (({}, {"effort": "none"}), "BLIP-2 does not reason"),
    "stream_options": (({},), "streams are not padded, and end with the usage"),
    "truncation": (("auto",), "turns that do not fit are always dropped, the oldest first"),
}


class ResponseRequest(WritingRequest):
    """A conversation about one picture."""

    limit_field: ClassVar[str] = "max_output_tokens"
    logprobs_field: ClassVar[str] = "top_logprobs"

    input: Annotated[list[Any], WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]})] = (
        Field(
            min_length=1,
            description="messages of user and assistant by turns; one input_image part in one of the user's; no text"
            " asks for a caption",
        )
    )
    task: Task = Field("auto", description=TASK)
    max_output_tokens: int | None = Field(
        None, ge=1, le=MAX_NEW_TOKENS, description="most tokens to write, 1 to 256; default 30, for vqa 10"
    )
    top_logprobs: int = Field(
        0, ge=0, le=MAX_LIKELY, description="likeliest tokens to tell at each place, with their log-probabilities"
    )
    include: list[str] = Field([], max_length=64, description=f"{_LOGPROBS} tells the log-probability of each token")

    @property
    def limit(self) -> int | None:
        """Most tokens to write."""
        return self.max_output_tokens

    @property
    def num_likely(self) -> int:
        """How many likely tokens are told at each place."""
        return self.top_logprobs

    @property
    def tells_logprobs(self) -> bool:
        """True if tokens are told with their log-probabilities."""
        return self.top_logprobs > 0 or _LOGPROBS in self.include


def validate_request(values: dict[str, object], ignored: Ignored) -> ResponseRequest:
    """Validate a JSON body from which nulls have been dropped; an `input` of text is one message.

    Raises:
        InvalidField: a field is missing, out of bounds, unsupported or contradicts another; `about` names it.
    """
    asked = eased(values, ignored, "max_output_tokens")
    if isinstance(asked.get("input"), str):
        asked["input"] = [{"role": "user", "content": asked["input"]}]
    if "text" in asked:
        _check_text(asked.pop("text"), ignored)
    request = supported(ResponseRequest, asked, ignored, REFUSED, IGNORED)
    for name in request.include:
        if name != _LOGPROBS:
            ignored.leave_out(f"include.{name}", "there is nothing of this to tell", at="include")
    return request


def _check_text(text: object, ignored: Ignored) -> None:
    """Check that plain text is asked for."""
    if not isinstance(text, dict):
        raise InvalidField('text is no object: send {"format": {"type": "text"}} or leave it out.', about="text")
    if text.get("format") not in (None, _PLAIN):
        raise InvalidField("text.format: BLIP-2 writes plain text and no JSON: leave it out.", about="text.format")
    for name, value in text.items():
        if name != "format" and value is not None:
            ignored.leave_out(f"text.{name}", "use max_output_tokens", at="text")
