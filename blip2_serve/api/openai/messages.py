"""Translate chat messages for BLIP-2: one picture, earlier questions and answers, and a text.

BLIP-2 was not trained to follow instructions, to call functions or to compare pictures. Messages that ask for these are
refused, and the error says what to send instead.
"""

from dataclasses import dataclass, field
from typing import Literal

from blip2_serve.api.errors import FieldNames
from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, MAX_TURNS, whole_characters
from blip2_serve.errors import InvalidField, Part
from blip2_serve.families import DEFAULT_QUESTION, Turn
from blip2_serve.tasks.prompt import PromptSpec

_ROLES = {
    "system": "BLIP-2 was not trained to follow instructions: leave this message out",
    "developer": "BLIP-2 was not trained to follow instructions: leave this message out",
    "tool": "BLIP-2 calls no tools: leave this message out",
    "function": "BLIP-2 calls no functions: leave this message out",
}
_PARTS = {
    "input_audio": "BLIP-2 hears nothing: send text and one picture",
    "file": "BLIP-2 reads no files: send a picture as image_url",
    "refusal": "BLIP-2 refuses nothing: leave this part out",
}
# OpenAI's clients send answers back with every field that OpenAI's own models may fill.
EMPTY_IN_ANSWERS = ("annotations", "audio", "function_call", "reasoning_content", "refusal", "tool_calls")
_DETAILS = ("auto", "low")


# Every part of a request came in the messages.
FIELDS: FieldNames = dict.fromkeys(Part, "messages")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One picture (a URL, a data: URI, base64 or an image-id), the earlier turns, and the new text (may be "")."""

    image: str
    turns: list[Turn]
    text: str

    def asked(self, task: Literal["auto", "caption", "vqa", "prefix"]) -> PromptSpec:
        """Build the prompt for `task`; "auto" is a chat where there is text, else a caption.

        Raises:
            InvalidField: the task takes no earlier turns, takes no text, or needs one.
        """
        if task == "auto" and self.text:
            return PromptSpec("chat", self.text, self.turns)
        task = "caption" if task == "auto" else task
        if self.turns:
            raise _refusal(
                "messages", f"a {task} knows no earlier turns: send one message, or ask in a chat (task auto)"
            )
        if bool(self.text) != (task == "prefix") and task != "vqa":
            reason = "a caption takes no text" if self.text else "a prefix needs a text"
            raise _refusal("task", f"{reason}: caption is without, prefix continues the one that is sent")
        return PromptSpec(task, self.text or None)


@dataclass(slots=True)
class _Message:
    role: str
    text: str
    images: list[str] = field(default_factory=list)


def read_conversation(messages: list[object]) -> Conversation:
    """Parse the messages of a chat.

    Consecutive user messages join to one question. An earlier turn without text stands for the default question.

    Raises:
        InvalidField: a message is malformed or asks for something BLIP-2 cannot do; `about` is its place.
    """
    if len(messages) > 2 * MAX_TURNS:
        raise _refusal("messages", f"more than {2 * MAX_TURNS} messages are too many: leave the oldest out")
    joined = _joined([_message(f"messages[{index}]", message) for index, message in enumerate(messages)])
    if not joined or joined[-1].role != "user":
        raise _refusal("messages", "the last one must be a user's: that is what BLIP-2 answers")
    images = [image for message in joined for image in message.images]
    if len(images) != 1:
        raise _refusal("messages", f"BLIP-2 looks at one picture and these hold {len(images)}: send one image_url part")
    *earlier, last = joined
    turns = [
        (asked.text or DEFAULT_QUESTION, said.text) for asked, said in zip(earlier[::2], earlier[1::2], strict=True)
    ]
    return Conversation(images[0], turns, last.text)


def _joined(messages: list[_Message]) -> list[_Message]:
    """Join consecutive user messages, so that user and assistant alternate, user first."""
    joined: list[_Message] = []
    for index, message in enumerate(messages):
        before = joined[-1] if joined else None
        if message.role == "assistant":
            if before is None or before.role == "assistant":
                raise _refusal(f"messages[{index}]", "this answers no question: let a user's message precede it")
            if not message.text:
                raise _refusal(f"messages[{index}]", "this answer is empty: leave it out, or say what was answered")
        if before is not None and before.role == message.role:
            before.text = _bounded(f"messages[{index}]", f"{before.text} {message.text}".strip())
            before.images.extend(message.images)
        else:
            joined.append(message)
    return joined


def _message(place: str, message: object) -> _Message:
    if not isinstance(message, dict):
        raise _refusal(place, 'this is no object: send {"role": "user", "content": ...}')
    role = message.get("role")
    if role not in ("user", "assistant"):
        reason = _ROLES.get(role) if isinstance(role, str) else None
        raise _refusal(f"{place}.role", reason or "a role is user or assistant")
    for name, value in message.items():
        if name in ("role", "content") or value is None or (name in EMPTY_IN_ANSWERS and value == []):
            continue
        raise _refusal(
            f"{place}.{name[:64]}", "a message has a role and a content, of text and a picture, and nothing else"
        )
    texts, images = _content(f"{place}.content", message.get("content"))
    if images and role == "assistant":
        raise _refusal(f"{place}.content", "BLIP-2 draws no pictures: send this one in a user's message")
    return _Message(role, _bounded(f"{place}.content", " ".join(text for text in texts if text)), images)


def _content(place: str, content: object) -> tuple[list[str], list[str]]:
    """Return the texts and the picture URLs of a message."""
    if content is None or isinstance(content, str):
        return [_text(place, content or "")], []
    if not isinstance(content, list):
        raise _refusal(place, "a content is text or a list of parts")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(content):
        where = f"{place}[{index}]"
        if not isinstance(part, dict):
            raise _refusal(where, 'this is no object: send {"type": "text", "text": "..."}')
        match part:
            case {"type": "text", "text": text, **rest} if not rest:
                texts.append(_text(f"{where}.text", text))
            case {"type": "image_url", "image_url": image_url, **rest} if not rest:
                images.append(_source(f"{where}.image_url", image_url))
            case _:
                raise _refusal(where, _no_part(part))
    return texts, images


def _no_part(part: dict[str, object]) -> str:
    kind = part.get("type")
    if isinstance(kind, str) and kind in _PARTS:
        return _PARTS[kind]
    return 'a part is {"type": "text", "text": ...} or {"type": "image_url", "image_url": {"url": ...}}'


def _text(place: str, text: object) -> str:
    if not isinstance(text, str):
        raise _refusal(place, "this is no text: send a string")
    try:
        return whole_characters(_bounded(place, text)).strip()
    except ValueError as error:
        raise _refusal(place, f"{error}") from None


def _bounded(place: str, text: str) -> str:
    """Return `text`, one or several joined, unless it is too long."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise _refusal(place, f"the text has more than {MAX_TEXT_CHARACTERS} characters: shorten it")
    return text


def _source(place: str, image_url: object) -> str:
    match image_url:
        case {"url": str(url), **rest} if set(rest) <= {"detail"}:
            detail = rest.get("detail")
            if detail is not None and detail not in _DETAILS:
                raise _refusal(f"{place}.detail", "BLIP-2 sees every picture at one size: leave this out")
            return url
    raise _refusal(place, 'send {"url": "data:image/jpeg;base64,..."}')


def _refusal(place: str, reason: str) -> InvalidField:
    return InvalidField(f"{place}: {reason}.", about=place)
