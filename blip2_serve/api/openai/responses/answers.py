"""The answers of responses, as OpenAI's clients read them."""

import uuid
from typing import Any, Literal, Self

from pydantic import Field

from blip2_serve.api.openai.answers import ChosenLogprob, Whole, now
from blip2_serve.api.openai.responses.request import ResponseRequest
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import CompletedRequest, Completion

Status = Literal["in_progress", "completed", "incomplete"]


def new_id(kind: str) -> str:
    """Return an id that no other answer has."""
    return f"{kind}_{uuid.uuid4().hex}"


class InputTokensDetails(Whole):
    """Nothing is cached: a picture that was seen before is read as any other."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Whole):
    """BLIP-2 does not reason."""

    reasoning_tokens: int = 0


class ResponseUsage(Whole):
    """Tokens read, the picture's rows among them, and tokens written, end tokens among them."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int

    @classmethod
    def of(cls, done: CompletedRequest) -> Self:
        """Count the tokens of a request."""
        total = done.prompt_tokens + done.new_tokens
        return cls(input_tokens=done.prompt_tokens, output_tokens=done.new_tokens, total_tokens=total)


class OutputText(Whole):
    """The text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[Any] = Field(default=[])
    logprobs: list[ChosenLogprob] = Field(default=[])


class OutputMessage(Whole):
    """The words of BLIP-2; can be sent back as they are."""

    id: str
    type: Literal["message"] = "message"
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = Field(default=[])


class IncompleteDetails(Whole):
    """Why an answer ended before its end."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Reasoning(Whole):
    """BLIP-2 does not reason."""

    effort: None = None
    summary: None = None


class ResponseAnswer(Whole):
    """The answer to a request, or the beginning of one."""

    id: str = Field(default_factory=lambda: new_id("resp"))
    object: Literal["response"] = "response"
    created_at: int = Field(default_factory=now)
    status: Status = "in_progress"
    background: Literal[False] = False
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: None = None
    max_output_tokens: int
    metadata: dict[str, str] = Field(default={})
    model: str
    output: list[OutputMessage] = Field(default=[])
    parallel_tool_calls: Literal[False] = False
    previous_response_id: None = None
    reasoning: Reasoning = Reasoning()
    service_tier: Literal["default"] = "default"
    store: Literal[False] = False
    temperature: float
    text: dict[str, Any] = Field(default={"format": {"type": "text"}})
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = Field(default=[])
    top_logprobs: int
    top_p: float
    truncation: Literal["auto"] = "auto"
    usage: ResponseUsage | None = None

    @classmethod
    def begun(cls, model: str, request: ResponseRequest, options: DecodingOptions) -> Self:
        """Build the answer before its first token."""
        return cls(
            model=model,
            max_output_tokens=options.max_new_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_logprobs=request.top_logprobs,
        )

    def ended(self, message: OutputMessage, done: CompletedRequest) -> Self:
        """Return the whole answer, with its one message."""
        details = IncompleteDetails() if message.status == "incomplete" else None
        usage = ResponseUsage.of(done)
        update = {"status": message.status, "incomplete_details": details, "output": [message], "usage": usage}
        return self.model_copy(update=update)


def status_of(completed: Completion) -> Status:
    """Return how an answer ended."""
    return "incomplete" if completed.finish_reason == "length" else "completed"
