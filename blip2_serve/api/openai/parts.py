"""Read the content of one message: its texts and the URLs of its pictures."""

import re
from typing import Any

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, whole_characters
from blip2_serve.errors import InvalidField

_KINDS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "image_url": "image_url",
    "input_image": "image_url",
}
# Parts that repeat what a model said of itself.
_REMARKS = ("refusal", "reasoning", "thinking")
_REFUSED = {
    "input_audio": "BLIP-2 hears nothing: send text and one picture",
    "audio_url": "BLIP-2 hears nothing: send text and one picture",
    "video_url": "BLIP-2 sees no films: send one picture of it as image_url",
    "file": "BLIP-2 reads no files: send a picture as image_url",
    "input_file": "BLIP-2 reads no files: send a picture as image_url",
}
# What answers say beside their text, and what asks for nothing: even a strict server takes it.
_BESIDE_ANSWERS = ("annotations", "logprobs")
_ANY_DETAIL = ("auto", "low")


def without_places(path: str) -> str:
    """Return a path into the body as it is named where it is ignored, such as messages[].name."""
    return re.sub(r"\[\d+\]", "[]", path)


def refusal(place: str, reason: str) -> InvalidField:
    """Build the error about `place`, a path into the body."""
    return InvalidField(f"{place}: {reason}.", about=place)


def read_content(place: str, content: object, ignored: Ignored) -> tuple[list[str], list[str]]:
    """Return the texts that are not blank, as sent, and the picture URLs of a message.

    Raises:
        InvalidField: a part is malformed or asks for something BLIP-2 cannot do; `about` is its place.
    """
    if content is None or isinstance(content, str):
        content = [content or ""]
    parts = content if isinstance(content, list) else [content]
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(parts):
        where = f"{place}[{index}]" if isinstance(content, list) else place
        _read_part(where, {"type": "text", "text": part} if isinstance(part, str) else part, ignored, texts, images)
    return texts, images


def _read_part(place: str, part: object, ignored: Ignored, texts: list[str], images: list[str]) -> None:
    if not isinstance(part, dict):
        raise refusal(place, 'a content is text or a list of parts: send {"type": "text", "text": "..."}')
    kind = part.get("type", next((name for name in ("text", "image_url") if name in part), None))
    if kind in _REMARKS:
        ignored.leave_out(f"{without_places(place)}.{kind}", "BLIP-2 says nothing of itself", at=place)
        return
    field = _KINDS.get(kind) if isinstance(kind, str) else None
    if field is None:
        raise refusal(place, _no_part(kind))
    for name, value in part.items():
        if name in ("type", field) or value is None or name in _BESIDE_ANSWERS:
            continue
        _leave_out(place, name, value, "a part is a text or a picture", ignored)
    if field == "image_url":
        images.append(_url(f"{place}.image_url", part, ignored))
    elif text := _text(f"{place}.text", part.get(field) if part.get(field) is not None else ""):
        texts.append(text)


def _no_part(kind: object) -> str:
    if isinstance(kind, str) and kind in _REFUSED:
        return _REFUSED[kind]
    return 'a part is {"type": "text", "text": ...} or {"type": "image_url", "image_url": {"url": ...}}'


def _text(place: str, text: object) -> str:
    """Return a text that is not blank as it was sent, else ""."""
    if not isinstance(text, str):
        raise refusal(place, "this is no text: send a string")
    try:
        return whole_characters(bounded(place, text)) if text.strip() else ""
    except ValueError as error:
        raise refusal(place, f"{error}") from None


def bounded(place: str, text: str) -> str:
    """Return `text`, one or several joined, unless it is too long.

    Raises:
        InvalidField: it has more characters than any prompt can.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise refusal(place, f"the text has more than {MAX_TEXT_CHARACTERS} characters: shorten it")
    return text


def _url(place: str, part: dict[str, Any], ignored: Ignored) -> str:
    """Find the URL in an object, as chats send it, or in a string, as input_image has it."""
    image_url = part.get("image_url")
    if isinstance(image_url, str):
        if part.get("type") != "input_image":
            ignored.tolerate('send {"url": "data:image/jpeg;base64,..."}', at=place)
        return image_url
    if part.get("file_id") is not None:
        raise refusal(place, "no files are kept here: send the picture as a data: URI or a URL")
    if not isinstance(image_url, dict) or not isinstance(image_url.get("url"), str):
        raise refusal(place, 'send {"url": "data:image/jpeg;base64,..."}')
    for name, value in image_url.items():
        if name != "url" and value is not None:
            _leave_out(place, name, value, "a picture has its url alone", ignored)
    return str(image_url["url"])


def _leave_out(place: str, name: str, value: object, reason: str, ignored: Ignored) -> None:
    path = f"{without_places(place)}.{name}"
    if name != "detail":
        ignored.leave_out(path, reason, at=f"{place}.{name[:64]}")
    elif value in _ANY_DETAIL:
        ignored.mention(path, "BLIP-2 sees every picture at one size")
    else:
        ignored.leave_out(path, "BLIP-2 sees every picture at one size", at=f"{place}.detail")
