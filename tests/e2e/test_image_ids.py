"""A conversation that sends its picture once."""

import base64
import hashlib
import json

import httpx
import pytest

from support.pictures import jpeg

PICTURE = jpeg(seed=11)
ID = hashlib.sha256(PICTURE).hexdigest()
UNKNOWN = "0" * 64
PATHS = ["/generate", "/vqa", "/chat", "/captions", "/choose"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_names_its_picture(http: httpx.Client, path: str) -> None:
    encoded = base64.b64encode(PICTURE).decode()
    assert http.post(path, files={"img": PICTURE}).headers["x-image-id"] == ID
    assert http.post(path, json={"img": encoded}).headers["x-image-id"] == ID
    assert http.post(path, json={"img_id": ID.upper()}).headers["x-image-id"] == ID


@pytest.mark.parametrize("path", PATHS)
def test_the_name_stands_for_the_picture_in_every_kind_of_body(http: httpx.Client, path: str) -> None:
    whole = http.post(path, files={"img": PICTURE}, data={"txt": "what?"})
    assert whole.status_code == 200
    for again in (
        http.post(path, files={"img_id": (None, ID), "txt": (None, "what?")}),
        http.post(path, files={"img_id": (None, json.dumps(ID)), "txt": (None, '"what?"')}),
        http.post(path, data={"img_id": ID, "img": "", "txt": "what?"}),
        http.post(path, json={"img_id": ID, "img": None, "txt": "what?"}),
    ):
        assert (again.status_code, again.text) == (200, whole.text)


def test_a_browsers_form_may_leave_its_file_empty(http: httpx.Client) -> None:
    http.post("/generate", files={"img": PICTURE})
    body = (
        '--b\r\ncontent-disposition: form-data; name="img"; filename=""\r\ncontent-type: application/octet-stream'
        f'\r\n\r\n\r\n--b\r\ncontent-disposition: form-data; name="img_id"\r\n\r\n{ID}\r\n--b--\r\n'
    )
    reply = http.post("/generate", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert reply.status_code == 200


def test_a_picture_that_is_not_there_has_to_be_sent_again(http: httpx.Client) -> None:
    reply = http.post("/vqa", json={"img_id": UNKNOWN, "txt": "what?"})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "unknown_image", "img_id")
    assert "send the picture again" in error["message"]
    assert "x-image-id" not in reply.headers


def chat(http: httpx.Client, url: str, **options: bool) -> httpx.Response:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    messages = [{"role": "user", "content": parts}]
    return http.post("/v1/chat/completions", json={"model": "blip2", "messages": messages, **options})


def test_openais_clients_send_a_picture_once_too(http: httpx.Client) -> None:
    whole = chat(http, f"data:image/jpeg;base64,{base64.b64encode(PICTURE).decode()}")
    again = chat(http, f"image-id:{whole.headers['x-image-id']}")
    stream = chat(http, f"image-id:{ID}", stream=True)
    assert [reply.headers["x-image-id"] for reply in (whole, again, stream)] == [ID] * 3
    assert [reply.headers["x-dropped-turns"] for reply in (whole, again, stream)] == ["0"] * 3
    said = whole.json()["choices"][0]["message"]["content"]
    assert said == again.json()["choices"][0]["message"]["content"]
    *chunks, end = [line.removeprefix("data: ") for line in stream.text.split("\n\n") if line]
    assert end == "[DONE]"
    assert "".join(json.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks) == said


@pytest.mark.parametrize("stream", [False, True])
def test_openais_clients_are_told_that_a_picture_is_not_there(http: httpx.Client, stream: bool) -> None:
    reply = chat(http, f"image-id:{UNKNOWN}", stream=stream)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "unknown_image", "messages")


@pytest.mark.parametrize("path", PATHS)
def test_a_picture_comes_one_way(http: httpx.Client, path: str) -> None:
    both = http.post(path, files={"img": PICTURE}, data={"img_id": ID})
    assert (both.status_code, both.json()["error"]["param"]) == (400, "img_id")
    none = http.post(path, data={"txt": "what?"})
    assert (none.status_code, none.json()["error"]["param"]) == (400, "img")


@pytest.mark.parametrize("img_id", ["", "../../etc/passwd", ID[1:], f"{ID}0", f"sha256:{ID}"])
def test_what_is_no_id_is_refused_by_name(http: httpx.Client, img_id: str) -> None:
    reply = http.post("/vqa", json={"img_id": img_id})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "img_id")


def test_the_openapi_page_requires_neither(http: httpx.Client) -> None:
    spec = http.get("/docs.json").json()
    for path in PATHS:
        schema = spec["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert schema["properties"]["img"]["format"] == "binary"
        assert schema["properties"]["img_id"]["type"] == "string"
        assert not {"img", "img_id"} & set(schema.get("required", []))
        assert "404" in spec["paths"][path]["post"]["responses"]
