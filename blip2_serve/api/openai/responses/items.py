"""Read the items of a response's input as the messages of a conversation."""

from collections.abc import Iterator

from blip2_serve.api.errors import FieldNames
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.messages import Conversation, Wording, read_placed
from blip2_serve.api.openai.parts import refusal, without_places
from blip2_serve.errors import Part

# Answers come back with what the server said of them.
_WORDING = Wording("input", "input_image", ("type", "id", "status", "phase"))
FIELDS: FieldNames = dict.fromkeys(Part, _WORDING.messages)

_REFUSED = {
    "item_reference": "nothing is kept here: send the item itself",
    "compaction": "nothing is kept here: send the items themselves",
}


def read_items(items: list[object], ignored: Ignored) -> Conversation:
    """Parse the items of an input; those that are no messages, such as a model's reasoning, are left out and named.

    Raises:
        InvalidField: an item is malformed or asks for something BLIP-2 cannot do; `about` is its place.
    """
    return read_placed(_messages(items, ignored), ignored, _WORDING)


def _messages(items: list[object], ignored: Ignored) -> Iterator[tuple[str, object]]:
    for index, item in enumerate(items):
        place = f"input[{index}]"
        kind = item.get("type", "message") if isinstance(item, dict) else "message"
        if not isinstance(kind, str):
            raise refusal(f"{place}.type", 'an item is {"type": "message", "role": "user", "content": ...}')
        if kind in _REFUSED:
            raise refusal(place, _REFUSED[kind])
        if kind.startswith("input_"):
            raise refusal(
                place, f'an {kind} is a part: send {{"role": "user", "content": [...]}} with it in the content'
            )
        if kind == "message":
            yield place, item
        else:
            ignored.leave_out(f"{without_places(place)}.{kind}", "BLIP-2 only talks: it reads messages", at=place)
