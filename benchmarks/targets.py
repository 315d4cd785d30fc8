"""How each server is started and asked: ours, the tutorials' (a), BentoML's adaptive batching (b)."""

import base64
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.workloads import Call
from blip2_serve.prompts import chat_prompt, vqa_prompt
from tests.serving import serve

_BOUNDARY = "blip2-serve-benchmark"


@dataclass(frozen=True)
class Post:
    """An HTTP request, ready to be sent."""

    path: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Target:
    """A server that runs: where, whose processes, and how a call is put to it."""

    name: str
    url: str
    pid: int
    post: Callable[[Call], Post]

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def resident_mb(self) -> float:
        """Resident memory of all its processes."""
        return sum(process.memory_info().rss for process in self._processes()) / 1e6

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]


@dataclass(frozen=True)
class Checkpoint:
    """What is served: the name BLIP2_MODEL takes, its folder, and the dtype of all."""

    name: str
    model: str
    folder: Path
    dtype: str
    peer_threads: int
    peer_batch: int
    extra: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def started(name: str, checkpoint: Checkpoint) -> Iterator[Target]:
    """Start one of TARGETS on a checkpoint."""
    service, post, settings = TARGETS[name]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore", **settings(checkpoint)}
    with tempfile.TemporaryDirectory() as home, serve(Path(home), environment, service) as server:
        yield Target(name, server.url, server.pid, post)


def _our_settings(checkpoint: Checkpoint) -> dict[str, str]:
    return {"BLIP2_MODEL": checkpoint.model, "BLIP2_DTYPE": checkpoint.dtype, **checkpoint.extra}


def _peer_settings(checkpoint: Checkpoint) -> dict[str, str]:
    return {
        "PEER_MODEL": str(checkpoint.folder),
        "PEER_DTYPE": checkpoint.dtype,
        "PEER_THREADS": os.environ.get("PEER_THREADS", str(checkpoint.peer_threads)),
        "PEER_BATCH": os.environ.get("PEER_BATCH", str(checkpoint.peer_batch)),
    }


def _to_ours(call: Call) -> Post:
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
    return _multipart(path, fields, call.picture)


def _to_tutorial(call: Call) -> Post:
    fields = {"txt": _prompt(call), "num_tokens": str(call.num_tokens), "num_beams": str(call.num_beams)}
    return _multipart("/generate", fields, call.picture)


def _to_adaptive(call: Call) -> Post:
    item = {
        "image": base64.b64encode(call.picture).decode(),
        "prompt": _prompt(call),
        "num_tokens": call.num_tokens,
    }
    return Post("/generate", "application/json", json.dumps({"items": [item]}).encode())


def _prompt(call: Call) -> str:
    """What our server makes of a call, for those to whom the whole prompt is sent."""
    if call.task == "caption":
        return ""
    return chat_prompt(call.turns, call.question) if call.turns else vqa_prompt(call.question, "opt")


def _multipart(path: str, fields: Mapping[str, str], picture: bytes) -> Post:
    """A form with a file `img`, as curl sends it."""
    parts = [_part(name, "", value.encode()) for name, value in fields.items()]
    parts.append(_part("img", '; filename="picture.jpg"\r\nContent-Type: image/jpeg', picture))
    return Post(path, f"multipart/form-data; boundary={_BOUNDARY}", b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode())


def _part(name: str, more: str, value: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


Settings = Callable[[Checkpoint], dict[str, str]]
TARGETS: dict[str, tuple[str, Callable[[Call], Post], Settings]] = {
    "ours": ("service:Blip2", _to_ours, _our_settings),
    "a": ("benchmarks.peers.tutorial:Tutorial", _to_tutorial, _peer_settings),
    "b": ("benchmarks.peers.adaptive:Adaptive", _to_adaptive, _peer_settings),
}
