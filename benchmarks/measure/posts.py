"""How a call is put to each server: the same picture, prompt and number of tokens for all."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measure.workloads import Call
from blip2_serve.families import OPT

_BOUNDARY = "blip2-serve-benchmark"


@dataclass(frozen=True)
class Post:
    """An HTTP request, ready to be sent; the answer to some is a stream of server-sent events."""

    path: str
    content_type: str
    body: bytes
    streams: bool = False


def to_ours(call: Call) -> Post:
    """The endpoint of the task, which makes the prompt itself."""
    fields = {
        "max_new_tokens": str(call.num_tokens),
        "min_new_tokens": str(call.num_tokens),
        "num_beams": str(call.num_beams),
    }
    if call.question:
        fields["txt"] = call.question
    if call.turns:
        fields["context"] = json.dumps(call.turns)
    path = {"caption": "/generate", "vqa": "/vqa", "chat": "/chat"}[call.task]
    return multipart(path, fields, call.picture)


def to_ours_streamed(call: Call) -> Post:
    """OpenAI's chat, for captions: the first token is what is timed, so the number of tokens is only an upper bound."""
    source = f"data:image/jpeg;base64,{base64.b64encode(call.picture).decode()}"
    content = [{"type": "image_url", "image_url": {"url": source}}]
    body = {"model": "blip2", "messages": [{"role": "user", "content": content}], "max_tokens": call.num_tokens}
    return Post("/v1/chat/completions", "application/json", json.dumps({**body, "stream": True}).encode(), streams=True)


def to_tutorial(call: Call) -> Post:
    """A form with the whole prompt."""
    fields = {"txt": prompt(call), "num_tokens": str(call.num_tokens), "num_beams": str(call.num_beams)}
    return multipart("/generate", fields, call.picture)


def to_adaptive(call: Call) -> Post:
    """A list of one job."""
    item = {"image": base64.b64encode(call.picture).decode(), "prompt": prompt(call), "num_tokens": call.num_tokens}
    return Post("/generate", "application/json", json.dumps({"items": [item]}).encode())


def prompt(call: Call) -> str:
    """The prompt that our server makes of a call, for peers that take the whole prompt."""
    if call.task == "caption":
        return ""
    return OPT.chat_prompt(call.turns, call.question) if call.turns else OPT.question_prompt(call.question)


def multipart(path: str, fields: Mapping[str, str], picture: bytes, name: str = "img") -> Post:
    """A form with a file, as curl sends it."""
    parts = [_part(field, "", value.encode()) for field, value in fields.items()]
    parts.append(_part(name, '; filename="picture.jpg"\r\nContent-Type: image/jpeg', picture))
    return Post(path, f"multipart/form-data; boundary={_BOUNDARY}", b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode())


def _part(name: str, more: str, value: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"
