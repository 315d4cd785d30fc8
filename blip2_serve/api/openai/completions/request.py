"""The body of a completion: a text to continue as it is, the picture, and how to write."""

from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator

from blip2_serve.api.errors import FieldNames
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, whole_characters
from blip2_serve.api.openai import unsupported
from blip2_serve.api.openai.habits import eased
from blip2_serve.api.openai.unsupported import Table, supported
from blip2_serve.api.openai.writing import MAX_LIKELY, StreamOptions, WritingRequest
from blip2_serve.errors import InvalidField, Part
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS

EXAMPLE = '{"model": "blip2", "prompt": "a photo of", "image": "data:image/jpeg;base64,..."}'
FIELDS: FieldNames = {**dict.fromkeys(Part, "prompt"), Part.IMAGE: "image", Part.IMAGE_ID: "image"}

REFUSED: Table = {**unsupported.REFUSED, "suffix": (("",), "BLIP-2 writes what follows a text, and fills no gaps")}
IGNORED: Table = {**unsupported.IGNORED, "best_of": ((1,), "n answers are drawn and n are returned")}

_TEXT = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_LIST_OF_ONE = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 1}
_PROMPT = {"anyOf": [_TEXT, _LIST_OF_ONE, {"type": "null"}]}


class CompletionRequest(WritingRequest):
    """A text to continue, about a picture."""

    image: str = Field(
        description="the picture: a data: URI, base64, a URL, or image-id: and the X-Image-Id of an earlier answer"
    )
    prompt: Annotated[str, WithJsonSchema(_PROMPT)] = Field(
        "", max_length=MAX_TEXT_CHARACTERS, description="what the model reads, as it is; none asks for a caption"
    )
    echo: bool = Field(False, description="repeat the prompt before the answer; not with logprobs")
    stream_options: StreamOptions | None = Field(None, description="only with stream")
    n: int = Field(1, ge=1, le=MAX_NUM_BEAMS, description="how many answers; above 1 needs a temperature above 0")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_NEW_TOKENS, description="most tokens to write, 1 to 256; default 30"
    )
    logprobs: int | None = Field(
        None, ge=0, le=MAX_LIKELY, description="tell the tokens' log-probabilities, and the likeliest so many's"
    )

    @field_validator("logprobs", mode="before")
    @classmethod
    def _no_logprobs_are_none(cls, logprobs: object) -> object:
        return None if logprobs is False else logprobs

    @property
    def limit(self) -> int | None:
        """Most tokens to write."""
        return self.max_tokens

    @property
    def num_answers(self) -> int:
        """How many answers are written."""
        return self.n

    @property
    def num_likely(self) -> int:
        """How many likely tokens are told at each place."""
        return self.logprobs or 0

    @property
    def tells_logprobs(self) -> bool:
        """True if tokens are told with their log-probabilities."""
        return self.logprobs is not None


def validate_request(values: dict[str, object], ignored: Ignored) -> CompletionRequest:
    """Validate a JSON body from which nulls have been dropped; a `prompt` may be a list of one.

    Raises:
        InvalidField: a field is missing, out of bounds, unsupported or contradicts another; `about` names it.
    """
    asked = eased(values, ignored, "max_tokens")
    if "prompt" in asked:
        asked["prompt"] = _one_text(asked["prompt"])
    if "image" not in asked:
        raise InvalidField(
            'BLIP-2 writes about a picture and there is none: send it as "image": "data:image/jpeg;base64,...".',
            about="image",
        )
    request = supported(CompletionRequest, asked, ignored, REFUSED, IGNORED)
    if request.echo and request.tells_logprobs:
        raise InvalidField("echo: the prompt's tokens are not scored, so leave out logprobs.", about="echo")
    return request


def _one_text(prompt: object) -> object:
    """Take the only text of a list for the text itself."""
    if isinstance(prompt, list):
        if any(isinstance(each, int | list) for each in prompt):
            reason = "holds token ids, and this model's tokens are not OpenAI's: send text"
            raise InvalidField(f"prompt {reason}.", about="prompt")
        if len(prompt) != 1:
            raise InvalidField(f"prompt holds {len(prompt)} texts: send one at a time.", about="prompt")
        prompt = prompt[0]
    try:
        return whole_characters(prompt) if isinstance(prompt, str) else prompt
    except ValueError as problem:
        raise InvalidField(f"prompt: {problem}.", about="prompt") from None
