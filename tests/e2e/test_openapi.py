"""docs/openapi.json equals the server's answer, has every route, and its examples work."""

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import schemathesis

from blip2_serve.api.hf.app import PATHS as HF_PATHS
from blip2_serve.api.ollama.app import PATHS as OLLAMA_PATHS
from blip2_serve.api.openai.app import PATHS
from blip2_serve.api.openapi.infrastructure import INFRASTRUCTURE
from scripts.write_openapi import OPENAPI
from support.readme import REFERENCE
from support.serving import ROOT, Server

SPEC = json.loads(OPENAPI.read_text())
MULTIPART, FORM, JSON = "multipart/form-data", "application/x-www-form-urlencoded", "application/json"
RAW = ("image/*", "application/octet-stream")
OURS = ("/generate", "/vqa", "/chat", "/captions", "/choose", "/batch", "/match", "/embed")
UNDECODED = ("/choose", "/match", "/embed")
CHAT = "/v1/chat/completions"
OLLAMA = ("/api/generate", "/api/chat", "/api/show")
TASKS = ("/hf/image-to-text", "/hf/visual-question-answering", "/hf/zero-shot-image-classification")
FOREIGN = (CHAT, "/v1/responses", "/v1/completions", "/v1/embeddings", *OLLAMA[:2], "/v1/rerank", "/v2/rerank")
# The examples' JSON picture is a smaller version of the file: its id and all that is fine about it differ, too.
DURATIONS = {"total_duration", "prompt_eval_duration", "eval_duration"}
NOT_THE_SAME = DURATIONS | {"created_at", "modified_at", "id", "created", "image_id"}
NOT_THE_SAME |= {"confidence", "itm", "itm_logit", "vectors", "embedding"}


def examples() -> list[tuple[str, str, dict[str, Any]]]:
    """List path, media type and value of every example body; a body that is a file has none."""
    bodies = [
        (path, kind, body)
        for path, item in SPEC["paths"].items()
        for kind, body in item.get("post", {}).get("requestBody", {}).get("content", {}).items()
        if kind not in RAW
    ]
    named = [(path, kind, body.get("examples", {"": {"value": body.get("example")}})) for path, kind, body in bodies]
    return [(path, kind, each["value"]) for path, kind, values in named for each in values.values()]


def post(url: str, kind: str, body: dict[str, Any]) -> httpx.Response:
    """Send `body` as media type `kind`. A form has lists as JSON, except pictures, which repeat the field."""
    if kind == JSON:
        return httpx.post(url, json=body, timeout=60)
    pictures = {name: body[name] for name in ("img", "imgs") if name in body}
    fields = {name: json.dumps(body[name]) if isinstance(body[name], list) else body[name] for name in body}
    if kind == FORM:
        return httpx.post(url, data={**fields, **pictures}, timeout=60)
    with ExitStack() as opened:
        names = [(name, each) for name, value in pictures.items() for each in ([value] if name == "img" else value)]
        files = [(name, opened.enter_context((ROOT / each).open("rb"))) for name, each in names]
        texts = {name: text for name, text in fields.items() if name not in pictures}
        return httpx.post(url, data=texts, files=files, timeout=60)


def near(shown: Any) -> Any:
    """Return `shown` with approximate numbers, without the fields that differ in every answer."""
    if isinstance(shown, dict):
        return {name: near(value) for name, value in shown.items() if name not in NOT_THE_SAME}
    if isinstance(shown, list):
        return [near(each) for each in shown]
    return pytest.approx(shown, abs=0.1) if isinstance(shown, float) else shown


def said(answer: Any) -> Any:
    """Return `answer` without the fields that differ in every answer."""
    if isinstance(answer, dict):
        return {name: said(value) for name, value in answer.items() if name not in NOT_THE_SAME}
    return [said(each) for each in answer] if isinstance(answer, list) else answer


# How each answer that may be streamed says its text.
WRITTEN: dict[str, Callable[[Any], str]] = {
    CHAT: lambda whole: whole["choices"][0]["message"]["content"],
    "/v1/responses": lambda whole: whole["output"][0]["content"][0]["text"],
    "/v1/completions": lambda whole: whole["choices"][0]["text"],
}


def shown_whole(path: str) -> Any:
    return SPEC["paths"][path]["post"]["responses"]["200"]["content"][JSON]["example"]


def streamed(event: Any) -> str:
    """The text that an event adds, in any of the protocols."""
    if "choices" in event:
        (choice,) = event["choices"]
        return choice["text"] if "text" in choice else choice["delta"].get("content", "")
    return event.get("delta", "")


def test_the_file_is_what_the_server_answers(http: httpx.Client) -> None:
    assert http.get("/docs.json").json() == SPEC, "docs/openapi.json is not what /docs.json answers: run make openapi"


def test_it_is_valid_openapi() -> None:
    schemathesis.openapi.from_path(OPENAPI).validate()


def test_it_has_every_route(http: httpx.Client) -> None:
    endpoints = {route["route"] for route in http.get("/schema.json").json()["routes"]}
    assert endpoints == set(OURS)
    mounted = {*(f"/v1{path}" for path in PATHS), "/v1/models/{model}", "/v2/rerank"}
    mounted |= {*(f"/api{path}" for path in OLLAMA_PATHS), *(f"/hf{path}" for path in HF_PATHS)}
    assert set(SPEC["paths"]) == {*endpoints, *mounted, *INFRASTRUCTURE}
    assert all(http.get(path).status_code == 200 for path in INFRASTRUCTURE)


@pytest.mark.parametrize("path", [*OURS, *FOREIGN[:-1]])
def test_the_reference_has_every_field(path: str) -> None:
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", REFERENCE.read_text(), re.DOTALL | re.MULTILINE))
    schema = SPEC["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]
    if "$ref" in schema:
        schema = SPEC["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    shared = "" if path in FOREIGN else sections["Bodies"] + ("" if path in UNDECODED else sections["Decoding"])
    said = sections[f"POST {path}"] + shared
    assert [name for name in schema["properties"] if f"`{name}`" not in said] == []


def test_every_kind_of_body_has_an_example() -> None:
    assert {(path, kind) for path, kind, value in examples() if value} == {
        *((path, JSON) for path in (*FOREIGN, OLLAMA[2], *TASKS)),
        *((path, kind) for path in OURS for kind in (MULTIPART, FORM, JSON)),
    }


@pytest.mark.parametrize(("path", "kind", "body"), examples())
def test_an_example_is_answered_as_shown(path: str, kind: str, body: dict[str, Any], demo: Server) -> None:
    check_answer(path, post(f"{demo.url}{path}", kind, body))


@pytest.mark.parametrize("path", [path for path in OURS if path != "/batch"])
def test_a_picture_alone_with_a_query_is_answered_as_the_form(path: str, demo: Server) -> None:
    content = SPEC["paths"][path]["post"]["requestBody"]["content"]
    assert [kind for kind in content if kind in RAW] == list(RAW)
    example = content[MULTIPART]["example"]
    picture = (ROOT / example["img"]).read_bytes()
    fields = {name: value for name, value in example.items() if name != "img"}
    query = {name: json.dumps(value) if name == "context" else value for name, value in fields.items()}
    for kind in ("image/jpeg", RAW[1], FORM):  # curl calls any --data-binary a form
        reply = httpx.post(
            f"{demo.url}{path}", content=picture, params=query, headers={"Content-Type": kind}, timeout=60
        )
        check_answer(path, reply)


def check_answer(path: str, reply: httpx.Response) -> None:
    """Compare an answer with the example in the document."""
    assert reply.status_code == 200, reply.text
    answered = reply.headers["content-type"].split(";")[0]
    shown = SPEC["paths"][path]["post"]["responses"]["200"]["content"][answered]
    match answered:
        case "text/plain":
            assert reply.text == shown["example"]
        case "application/json":
            assert said(reply.json()) == near(shown["example"])
        case _:
            events = [json.loads(data) for data in re.findall(r"^data: (\{.*)$", reply.text, re.MULTILINE)]
            assert "".join(map(streamed, events)) == WRITTEN[path](shown_whole(path))


def test_schemas_keep_the_names_that_clients_have_generated_code_by(server: Server) -> None:
    routes = httpx.get(f"{server.url}/schema.json", timeout=60).json()["routes"]
    assert {route["name"]: route["input"]["title"] for route in routes} == {
        "generate": "CaptionInput",
        "vqa": "AnswerInput",
        "chat": "ChatInput",
        "captions": "CaptionsInput",
        "choose": "ChooseInput",
        "batch": "BatchInput",
        "match": "MatchInput",
        "embed": "EmbedInput",
    }
