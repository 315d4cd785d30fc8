"""Translate chat messages for BLIP-2: one picture, earlier questions and answers, and a text.

BLIP-2 was not trained to follow instructions, to call functions or to compare pictures. Messages that instruct it are
left out and named; of pictures in several turns the last is meant, and what was said before it is forgotten.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from blip2_serve.api.errors import FieldNames
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import MAX_TURNS
from blip2_serve.api.openai.parts import bounded, read_content, refusal, without_places
from blip2_serve.errors import Part
from blip2_serve.families import DEFAULT_QUESTION, Turn
from blip2_serve.tasks.prompt import PromptSpec

LEFT_OUT = {
    "system": "BLIP-2 was not trained to follow instructions",
    "developer": "BLIP-2 was not trained to follow instructions",
    "tool": "BLIP-2 calls no tools",
    "function": "BLIP-2 calls no functions",
}
# OpenAI's clients send answers back with every field that OpenAI's own models may fill.
EMPTY_IN_ANSWERS = ("annotations", "audio", "function_call", "reasoning_content", "refusal", "tool_calls")

# Every part of a request came in the messages.
FIELDS: FieldNames = dict.fromkeys(Part, "messages")
Task = Literal["auto", "caption", "vqa", "prefix"]
TASK = (
    'auto: without text a caption, else the chat ("Question: ... Answer:"); caption: no text; vqa: one'
    " question in the family's own template; prefix: the text is how the caption begins"
)


@dataclass(frozen=True, slots=True)
class Wording:
    """The names of a protocol.

    Attributes:
        messages: the field that holds them.
        picture: a part with a picture.
        beside: what messages have beside role and content, without a word.
    """

    messages: str = "messages"
    picture: str = "image_url"
    beside: tuple[str, ...] = ()


CHAT = Wording()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One picture (a URL, a data: URI, base64 or an image-id), the earlier turns, and the new text (may be "").

    `dropped_turns` were about earlier pictures.
    """

    image: str
    turns: list[Turn]
    text: str
    dropped_turns: int = 0
    wording: Wording = CHAT

    def asked(self, task: Task) -> PromptSpec:
        """Build the prompt for `task`; "auto" is a chat where there is text, else a caption.

        Raises:
            InvalidField: the task takes no earlier turns, takes no text, or needs one.
        """
        if task == "auto" and (self.text or self.turns):
            return PromptSpec("chat", self.text or None, self.turns)
        task = "caption" if task == "auto" else task
        if self.turns:
            reason = f"a {task} knows no earlier turns: send one message, or ask in a chat (task auto)"
            raise refusal(self.wording.messages, reason)
        if bool(self.text) != (task == "prefix") and task != "vqa":
            reason = "a caption takes no text" if self.text else "a prefix needs a text"
            raise refusal("task", f"{reason}: caption is without, prefix continues the one that is sent")
        return PromptSpec(task, self.text or None)


@dataclass(slots=True)
class _Message:
    place: str
    role: str
    text: str
    images: list[str] = field(default_factory=list)


def read_conversation(messages: list[object], ignored: Ignored) -> Conversation:
    """Parse the messages of a chat, see `read_placed`."""
    return read_placed(((f"messages[{index}]", message) for index, message in enumerate(messages)), ignored)


def read_placed(messages: Iterable[tuple[str, object]], ignored: Ignored, wording: Wording = CHAT) -> Conversation:
    """Parse messages, each with its place in the body.

    Consecutive messages of one role join to one text. An earlier turn without text stands for the default question.

    Raises:
        InvalidField: a message is malformed or asks for something BLIP-2 cannot do; `about` is its place.
    """
    placed = list(messages)
    if len(placed) > 2 * MAX_TURNS:
        raise refusal(wording.messages, f"more than {2 * MAX_TURNS} messages are too many: leave the oldest out")
    read = [_message(place, message, ignored, wording) for place, message in placed]
    said = [message for message in read if message is not None]
    if not said or said[-1].role != "user":
        raise refusal(wording.messages, "the last one must be a user's: that is what BLIP-2 answers")
    about, begin = _place_of_picture(said, wording), 0
    if any(message.images for message in said[:about]):
        ignored.tolerate(f"BLIP-2 looks at one picture: send one {wording.picture} part", at=wording.messages)
        begin = _begin_of_turn(said, about)
    *earlier, last = _joined(said[begin:], ignored)
    turns = [(asked.text or DEFAULT_QUESTION, ans.text) for asked, ans in zip(earlier[::2], earlier[1::2], strict=True)]
    return Conversation(said[about].images[0], turns, last.text, _num_questions(said[:begin]), wording)


def _place_of_picture(messages: list[_Message], wording: Wording) -> int:
    """Find the message with the picture that is meant, the last.

    Raises:
        InvalidField: no message has a picture, or that one has several.
    """
    places = [place for place, message in enumerate(messages) if message.images]
    if not places:
        reason = f"BLIP-2 talks about a picture and there is none: add one as an {wording.picture} part"
        raise refusal(wording.messages, reason)
    num_images = len(messages[places[-1]].images)
    if num_images > 1:
        where = messages[places[-1]].place
        raise refusal(where, f"BLIP-2 looks at one picture and this message holds {num_images}: send one at a time")
    return places[-1]


def _begin_of_turn(messages: list[_Message], about: int) -> int:
    """Find the first of the messages in a row that ask about the picture of message `about`."""
    while about and messages[about - 1].role == "user" and not messages[about - 1].images:
        about -= 1
    return about


def _num_questions(messages: list[_Message]) -> int:
    """Count the turns that begin in `messages`; questions in a row are one."""
    roles = [message.role for message in messages]
    return sum(role == "user" != before for before, role in zip(["", *roles], roles, strict=False))


def _joined(messages: list[_Message], ignored: Ignored) -> list[_Message]:
    """Join consecutive messages of a role, so that user and assistant alternate, user first."""
    joined: list[_Message] = []
    for message in messages:
        if not joined and message.role == "assistant":
            first = f"{message.place.partition('[')[0]}[0]"
            ignored.leave_out(first, "this answers no question", at=message.place)
        elif joined and joined[-1].role == message.role:
            if message.role == "assistant":
                ignored.tolerate("this answers no question: let a user's message precede it", at=message.place)
            texts = [text for text in (joined[-1].text, message.text) if text]
            joined[-1].text = bounded(message.place, _one_text(texts))
        else:
            joined.append(message)
    return joined


def _message(place: str, message: object, ignored: Ignored, wording: Wording) -> _Message | None:
    """Read one message; None for one that says nothing to BLIP-2."""
    if not isinstance(message, dict):
        raise refusal(place, 'this is no object: send {"role": "user", "content": ...}')
    role = message.get("role")
    if isinstance(role, str) and role in LEFT_OUT:
        ignored.leave_out(role, LEFT_OUT[role], at=f"{place}.role")
        return None
    if role not in ("user", "assistant"):
        raise refusal(f"{place}.role", "a role is user or assistant")
    for name, value in message.items():
        known = ("role", "content", *wording.beside)
        if name in known or value is None or (name in EMPTY_IN_ANSWERS and value == []):
            continue
        reason = "a message has a role and a content, of text and a picture, and nothing else"
        ignored.leave_out(f"{without_places(place)}.{name}", reason, at=f"{place}.{name[:64]}")
    return _said(place, role, message.get("content"), ignored)


def _said(place: str, role: str, content: object, ignored: Ignored) -> _Message | None:
    texts, images = read_content(f"{place}.content", content, ignored)
    text = bounded(f"{place}.content", _one_text(texts))
    if role == "user":
        return _Message(place, role, text, images)
    if images:
        what = f"{without_places(place)}.content[].image_url"
        ignored.leave_out(what, "BLIP-2 draws no pictures", at=f"{place}.content")
    if not text:
        ignored.leave_out(f"{without_places(place)}.content", "this answer is empty", at=place)
        return None
    return _Message(place, role, text.strip())


def _one_text(texts: list[str]) -> str:
    """Join texts; a single one stays as it was sent, for it may be a prefix."""
    return texts[0] if len(texts) == 1 else " ".join(map(str.strip, texts))
