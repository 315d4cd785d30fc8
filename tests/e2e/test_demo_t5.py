"""`BLIP2_MODEL=demo-t5` gives the answers about demo.jpeg that the README shows for `demo`."""

import json
from collections.abc import Iterator

import httpx
import pytest

from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, PREFIX, QUESTION, TURN
from support.serving import serve


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server on the bundled Flan-T5."""
    with (
        serve(tmp_path_factory.mktemp("demo-t5"), {"BLIP2_MODEL": "demo-t5"}) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("path", "fields", "answer"),
    [
        ("/generate", {}, CAPTION),
        # A Flan-T5 writes only the rest: its encoder reads the prefix.
        ("/generate", {"txt": PREFIX}, CAPTION.removeprefix(PREFIX).strip()),
        ("/vqa", {"txt": QUESTION}, ANSWER),
        ("/chat", {"txt": FOLLOW_UP, "context": json.dumps([TURN])}, FOLLOW_UP_ANSWER),
    ],
    ids=["caption", "rest of a caption", "answer", "follow-up"],
)
def test_it_is_right_about_the_picture(http: httpx.Client, path: str, fields: dict[str, str], answer: str) -> None:
    reply = http.post(path, files={"img": PICTURE.read_bytes()}, data=fields)
    assert (reply.status_code, reply.text) == (200, answer)
    assert reply.headers["x-model"] == "demo-t5"
