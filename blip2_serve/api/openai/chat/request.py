"""The body of a chat completion: the OpenAI fields that mean something to BLIP-2, and some of our own."""

from typing import Any

from pydantic import Field

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.habits import eased
from blip2_serve.api.openai.messages import TASK, Task
from blip2_serve.api.openai.unsupported import IGNORED, REFUSED, supported
from blip2_serve.api.openai.writing import MAX_LIKELY, StreamOptions, WritingRequest
from blip2_serve.options import MAX_NEW_TOKENS, MAX_NUM_BEAMS

EXAMPLE = '{"model": "blip2", "messages": [{"role": "user", "content": [...]}]}'


class ChatRequest(WritingRequest):
    """A conversation about one picture."""

    messages: list[Any] = Field(
        min_length=1,
        description="user and assistant by turns; one image_url part in one of the user's; no text asks for a caption",
    )
    task: Task = Field("auto", description=TASK)
    stream_options: StreamOptions | None = Field(None, description="only with stream")
    n: int = Field(1, ge=1, le=MAX_NUM_BEAMS, description="how many answers; above 1 needs a temperature above 0")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_NEW_TOKENS, description="most tokens to write, 1 to 256; default 30, for vqa 10"
    )
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_NEW_TOKENS, description="the newer name of max_tokens")
    logprobs: bool = Field(False, description="tell the log-probability of each token")
    top_logprobs: int = Field(
        0, ge=0, le=MAX_LIKELY, description="likeliest tokens to tell at each place; only with logprobs"
    )

    @property
    def limit(self) -> int | None:
        """Most tokens to write, by either name."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_answers(self) -> int:
        """How many answers are written."""
        return self.n

    @property
    def num_likely(self) -> int:
        """How many likely tokens are told at each place."""
        return self.top_logprobs

    @property
    def tells_logprobs(self) -> bool:
        """True if tokens are told with their log-probabilities."""
        return self.logprobs


def validate_request(values: dict[str, object], ignored: Ignored) -> ChatRequest:
    """Validate a JSON body from which nulls have been dropped.

    Raises:
        InvalidField: a field is missing, out of bounds, unsupported or contradicts another; `about` names it.
    """
    asked = eased(values, ignored, "max_tokens", "max_completion_tokens")
    if asked.get("top_logprobs") and not asked.get("logprobs"):
        ignored.leave_out("top_logprobs", "it needs logprobs: true")
        del asked["top_logprobs"]
    return supported(ChatRequest, asked, ignored, REFUSED, IGNORED)
