"""BentoML's own Python clients, synchronous and asynchronous."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException
from PIL import Image

from support.pictures import jpeg
from support.serving import Server


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    return tmp_path / "a.jpg"


@pytest.fixture
def client(server: Server) -> Iterator[bentoml.SyncHTTPClient]:
    with bentoml.SyncHTTPClient(server.url) as sync_client:
        yield sync_client


def test_the_client_gets_what_curl_gets(client: bentoml.SyncHTTPClient, http: httpx.Client, picture: Path) -> None:
    assert client.generate(img=picture) == http.post("/generate", files={"img": jpeg()}).text
    asked = http.post("/vqa", files={"img": jpeg()}, data={"txt": "what?", "num_beams": "2"}).text
    assert client.vqa(img=picture, txt="what?", num_beams=2) == asked


def test_the_client_holds_a_conversation(client: bentoml.SyncHTTPClient, http: httpx.Client, picture: Path) -> None:
    form = {"txt": "why?", "context": '[["what?", "a cat"]]'}
    expected = http.post("/chat", files={"img": jpeg()}, data=form).text
    assert client.chat(img=picture, txt="why?", context=[("what?", "a cat")]) == expected


def test_a_text_that_looks_like_json_arrives_as_it_is(
    client: bentoml.SyncHTTPClient, http: httpx.Client, picture: Path
) -> None:
    for text in ("42", "true", "[1]", 'he said "hi"', '"quoted"'):
        asked = http.post("/vqa", json={"img": _base64(picture), "txt": text}).text
        assert client.vqa(img=picture, txt=text) == asked


def test_a_pil_image_is_taken(client: bentoml.SyncHTTPClient, picture: Path) -> None:
    with Image.open(picture) as image:
        assert client.generate(img=image) == client.generate(img=picture)


def test_the_client_asks_again_without_the_picture(client: bentoml.SyncHTTPClient, picture: Path) -> None:
    caption = client.generate(img=picture)
    image_id = hashlib.sha256(picture.read_bytes()).hexdigest()
    assert client.generate(img_id=image_id) == caption
    with pytest.raises(BentoMLException, match="send the picture again"):
        client.generate(img_id="0" * 64)


def test_a_client_without_a_picture_is_told_what_is_missing(client: bentoml.SyncHTTPClient) -> None:
    with pytest.raises(BentoMLException, match="img is missing"):
        client.vqa(txt="what?")


def test_a_refusal_reaches_the_caller_with_its_message(client: bentoml.SyncHTTPClient, picture: Path) -> None:
    with pytest.raises(BentoMLException, match="num_beams"):
        client.generate(img=picture, num_beams=17)


def test_the_asynchronous_client_keeps_many_requests_in_the_air(server: Server, picture: Path) -> None:
    """Send images, not paths: BentoML 1.4.40 closes the files of all calls when the first is answered."""

    async def ask(images: list[Image.Image]) -> list[str]:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            return list(await asyncio.gather(*(client.generate(img=image, max_new_tokens=4) for image in images)))

    with contextlib.ExitStack() as opened:
        images = [opened.enter_context(Image.open(picture)) for _ in range(8)]
        assert len(set(asyncio.run(ask(images)))) == 1


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
