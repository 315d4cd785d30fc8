"""Prints the project's own functions that a request passes, as JSON; run by scripts/measure_structure.py.

Run in the root of the checkout to be traced, which is also where `service` is imported from.
"""

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from starlette.testclient import TestClient

ROOT = Path.cwd()
OWN = (str(ROOT / "service.py"), str(ROOT / "blip2_serve"))
Request = Callable[[TestClient, bytes], None]
SETTLE_S = 0.3  # for what other threads do before and after an answer


class Trace:
    """A profile function for every thread that notes own functions while `passed` is a set."""

    def __init__(self) -> None:
        self.passed: set[str] | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code, passed = frame.f_code, self.passed
        is_own = code.co_filename.startswith(OWN) and not code.co_name.startswith("<")
        if passed is not None and event == "call" and is_own:
            passed.add(f"{Path(code.co_filename).relative_to(ROOT)}: {code.co_qualname}")

    def of(self, request: Request, client: TestClient, pictures: Iterator[bytes]) -> list[str]:
        """`file: function` of every own function that `request` passes in any thread, once everything is warm."""
        request(client, next(pictures))
        time.sleep(SETTLE_S)
        passed: set[str] = set()
        self.passed = passed
        request(client, next(pictures))
        time.sleep(SETTLE_S)
        self.passed = None
        return sorted(passed)


def new_pictures() -> Iterator[bytes]:
    """One JPEG, in bytes that no cache has seen."""
    jpeg = (ROOT / "demo.jpeg").read_bytes()
    return (jpeg + number.to_bytes(4, "big") for number in count())


def generate(client: TestClient, picture: bytes) -> None:
    """POST /generate."""
    client.post("/generate", files={"img": ("demo.jpeg", picture)}).raise_for_status()


def stream_completion(client: TestClient, picture: bytes) -> None:
    """POST /v1/chat/completions with `stream`, read to its end."""
    image_url = {"url": "data:image/jpeg;base64," + base64.b64encode(picture).decode()}
    message = {"role": "user", "content": [{"type": "image_url", "image_url": image_url}]}
    body = {"model": "blip2", "stream": True, "messages": [message]}
    client.post("/v1/chat/completions", json=body).raise_for_status()


REQUESTS: dict[str, Request] = {"POST /generate": generate, "streamed chat completion": stream_completion}


def main() -> None:
    """Trace every request of REQUESTS on the demo checkpoint."""
    trace, pictures = Trace(), new_pictures()
    threading.setprofile(trace)
    sys.setprofile(trace)
    from service import Blip2  # traced threads start with it

    with TestClient(Blip2.to_asgi()) as client:  # type: ignore[attr-defined]
        passed = {name: trace.of(ask, client, pictures) for name, ask in REQUESTS.items()}
    print(json.dumps(passed))


if __name__ == "__main__":
    main()
