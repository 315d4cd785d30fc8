"""The real server on pictures as people have them, with its defaults, and with cut pictures and profiles taken."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.images import odd_files as files
from support.images.profiles import wide_gamut_profile
from support.serving import serve

PHOTOGRAPH = files.photograph(160, 120)
PNG, JPEG = files.saved(PHOTOGRAPH, "PNG"), files.saved(PHOTOGRAPH, "JPEG")
CUT = {"png": PNG[: len(PNG) * 8 // 10], "jpeg": JPEG[: len(JPEG) * 8 // 10]}
WIDE = files.saved(PHOTOGRAPH, "PNG", icc_profile=wide_gamut_profile())
HEADER = "x-truncated-image"


@pytest.fixture(scope="module")
def settings(
    tiny_checkpoints: dict[str, Path], tiny_retrieval_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return {
        "BLIP2_MODEL": str(tiny_checkpoints["opt"]),
        "BLIP2_RETRIEVAL_MODEL": str(tiny_retrieval_checkpoint),
        "BLIP2_IMAGE_CACHE_DIR": str(tmp_path_factory.mktemp("images")),
    }


@pytest.fixture(scope="module")
def lenient(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that takes cut pictures and follows profiles."""
    lenient = {"BLIP2_TRUNCATED_IMAGES": "accept", "BLIP2_COLOR": "srgb"}
    home = tmp_path_factory.mktemp("lenient")
    with serve(home, settings | lenient) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def chat(client: httpx.Client, data: bytes, **options: bool) -> httpx.Response:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    return client.post(
        "/v1/chat/completions", json={"model": "blip2", "messages": [{"role": "user", "content": parts}], **options}
    )


def test_odd_metadata_changes_no_answer(http: httpx.Client) -> None:
    expected = http.post("/generate", files={"img": PNG})
    assert expected.status_code == 200
    for name, data in [each for each in files.odd_pngs(PNG) if len(each[1]) < 100_000][::7]:
        reply = http.post("/generate", files={"img": data})
        assert (reply.status_code, reply.text) == (200, expected.text), name
        assert HEADER not in reply.headers


def test_heic_is_answered(http: httpx.Client) -> None:
    from blip2_serve.images.formats.heif import has_reader

    assert has_reader()
    assert http.post("/generate", files={"img": files.saved(PHOTOGRAPH, "HEIF")}).status_code == 200


@pytest.mark.parametrize("data", [b"\xff\x0a" + bytes(99), b"<svg/>"])
def test_what_is_not_read_is_named(http: httpx.Client, data: bytes) -> None:
    reply = http.post("/generate", files={"img": data})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_image")
    assert "JPEG XL" in reply.text or "SVG" in reply.text


@pytest.mark.parametrize("format_", CUT)
def test_a_cut_picture_is_refused_by_default(http: httpx.Client, format_: str) -> None:
    reply = http.post("/generate", files={"img": CUT[format_]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_image")
    assert HEADER not in reply.headers


@pytest.mark.parametrize("format_", CUT)
def test_every_answer_about_a_cut_picture_says_so(lenient: httpx.Client, format_: str) -> None:
    data = CUT[format_]
    encoded = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    about = {"files": {"img": data}}
    replies = [lenient.post(path, **about) for path in ("/generate", "/vqa", "/chat", "/captions", "/choose", "/embed")]
    replies.append(lenient.post("/match", files={"img": data}, data={"texts": '["a"]'}))
    replies.append(lenient.post("/batch", files=[("imgs", PNG), ("imgs", data)]))
    replies += [chat(lenient, data), chat(lenient, data, stream=True)]
    replies.append(lenient.post("/v1/embeddings", json={"input": [{"image": encoded}]}))
    replies.append(lenient.post("/v2/rerank", json={"query": "a", "documents": [{"image": encoded}]}))
    assert [(reply.url.path, reply.status_code, reply.headers.get(HEADER)) for reply in replies] == [
        (reply.url.path, 200, "true") for reply in replies
    ]
    again = lenient.post("/vqa", data={"img_id": hashlib.sha256(data).hexdigest()})
    assert (again.status_code, again.headers[HEADER]) == (200, "true")
    for whole in (lenient.post("/generate", files={"img": PNG}), chat(lenient, JPEG, stream=True)):
        assert (whole.status_code, HEADER in whole.headers) == (200, False)


def test_a_server_that_reads_pictures_otherwise_does_not_know_their_ids(
    lenient: httpx.Client, settings: dict[str, str], tmp_path: Path
) -> None:
    sent = [lenient.post("/generate", files={"img": data}) for data in (WIDE, CUT["png"])]
    ids = [reply.headers["x-image-id"] for reply in sent]
    vectors = lenient.post("/embed", files={"img": WIDE}).json()
    with serve(tmp_path, settings) as running:
        for image_id in ids:
            reply = httpx.post(f"{running.url}/generate", data={"img_id": image_id}, timeout=60)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_image")
        plain = httpx.post(f"{running.url}/embed", files={"img": WIDE}, timeout=60).json()
    assert json.dumps(plain) != json.dumps(vectors), "colours are the profile's on one server alone"
