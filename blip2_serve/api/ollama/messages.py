"""Find the picture and the question in what Ollama's clients send; a chat is read as OpenAI's is."""

from dataclasses import dataclass
from typing import Any

from blip2_serve.api.errors import FieldNames
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.ollama.request import ChatRequest, GenerateRequest
from blip2_serve.api.openai.messages import read_conversation
from blip2_serve.api.openai.parts import read_content, refusal
from blip2_serve.errors import Part
from blip2_serve.tasks.prompt import PromptSpec

FIELDS: FieldNames = {**dict.fromkeys(Part, "prompt"), Part.IMAGE: "images", Part.IMAGE_ID: "images"}
_NO_PICTURE = "BLIP-2 talks about a picture and there is none: add one to images"


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture, as its client wrote it, and what is asked about it; `dropped_turns` were about earlier pictures."""

    image: str
    prompt: PromptSpec
    dropped_turns: int = 0


def asked_to_generate(request: GenerateRequest, ignored: Ignored) -> Asked | None:
    """Find the question of /api/generate; None where there is nothing but the wish to load the model.

    Raises:
        InvalidField: there is no picture, or there are several.
    """
    texts, _ = read_content("prompt", request.prompt, ignored)
    text = "".join(texts)
    if not request.images:
        if not text:
            return None
        raise refusal("images", _NO_PICTURE)
    if len(request.images) > 1:
        raise refusal("images", f"BLIP-2 looks at one picture and there are {len(request.images)}: send one at a time")
    image = _pictures("images", request.images)[0]
    if not text:
        return Asked(image, PromptSpec("caption"))
    return Asked(image, PromptSpec("prefix", text, echoes=False) if request.raw else PromptSpec("chat", text))


def asked_in_chat(request: ChatRequest, ignored: Ignored) -> Asked | None:
    """Find the last question of a conversation; None where there is nothing but the wish to load the model.

    Raises:
        InvalidField: a message is malformed or asks for something BLIP-2 cannot do; `about` is its place.
    """
    if not request.messages:
        return None
    if not any(isinstance(message, dict) and message.get("images") for message in request.messages):
        raise refusal("messages", _NO_PICTURE)
    translated = [_in_parts(f"messages[{index}]", message) for index, message in enumerate(request.messages)]
    conversation = read_conversation(translated, ignored)
    return Asked(conversation.image, conversation.asked("auto"), conversation.dropped_turns)


def _in_parts(place: str, message: object) -> object:
    """Write a message with its pictures as parts of its content."""
    if not isinstance(message, dict):
        return message
    text, images = message.get("content"), message.get("images") or []
    parts: list[Any] = [] if text is None else [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in _pictures(f"{place}.images", images)]
    role = message.get("role")
    others = {name: value for name, value in message.items() if name != "images"}
    return {**others, "role": role.lower() if isinstance(role, str) else role, "content": parts}


def _pictures(place: str, images: object) -> list[str]:
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise refusal(place, "pictures are a list of base64 texts")
    return images
