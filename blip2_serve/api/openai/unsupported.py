"""Fields of OpenAI's that BLIP-2 cannot follow: refused where no caller can do without them, else ignored and named.

The values that ask for nothing are taken without a word, because clients send them unasked.
"""

from collections.abc import Mapping
from typing import TypeVar

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.api.openai.writing import WritingRequest
from blip2_serve.errors import InvalidField

# By field: the values that ask for nothing, and the reason for not following any other.
Table = Mapping[str, tuple[tuple[object, ...], str]]
RequestT = TypeVar("RequestT", bound=WritingRequest)

REFUSED: Table = {
    "audio": ((), "BLIP-2 writes text"),
    "function_call": (("none", "auto"), "BLIP-2 calls no functions"),
    "grammar": ((), "BLIP-2 follows no grammar"),
    "guided_choice": (([],), "POST /choose ranks given answers"),
    "guided_grammar": ((), "BLIP-2 follows no grammar"),
    "guided_json": ((), "BLIP-2 writes plain text and no JSON"),
    "guided_regex": ((), "BLIP-2 follows no grammar"),
    "logit_bias": (({},), "tokens cannot be favoured"),
    "modalities": ((["text"],), "BLIP-2 writes text"),
    "response_format": (({"type": "text"},), "BLIP-2 writes plain text and no JSON"),
    "structured_outputs": (({},), "BLIP-2 writes plain text and no JSON"),
    "tool_choice": (("none", "auto", {"type": "none"}, {"type": "auto"}), "BLIP-2 calls no tools"),
}
IGNORED: Table = {
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


def supported(
    model: type[RequestT], values: Mapping[str, object], ignored: Ignored, refusing: Table, ignoring: Table
) -> RequestT:
    """Validate the fields that `model` knows, and refuse or name the others.

    Raises:
        InvalidField: a field is missing, out of bounds, unsupported or contradicts another; `about` names it.
    """
    for name, value in values.items():
        if name in refusing:
            _refuse(name, value, refusing)
        elif name not in model.model_fields:
            _leave_out(name, value, ignored, ignoring)
    request = validate_fields(model, {name: values[name] for name in model.model_fields if name in values})
    request.check_together()
    return request


def _refuse(name: str, value: object, refusing: Table) -> None:
    neutral, reason = refusing[name]
    if not _is_one_of(value, neutral):
        raise InvalidField(f"{name} asks for what is not done here ({reason}): leave it out.", about=name)


def _leave_out(name: str, value: object, ignored: Ignored, ignoring: Table) -> None:
    if name in NOTES:
        ignored.mention(name, "it goes nowhere")
        return
    neutral, reason = ignoring.get(name, ((), "there is no such field"))
    if not _is_one_of(value, neutral):
        ignored.leave_out(name, reason)


def _is_one_of(value: object, neutral: tuple[object, ...]) -> bool:
    """Compare as JSON does: in Python True == 1, in JSON true is not 1. A null within is as if it were not sent."""
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if each is not None}
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in neutral)
