"""schemathesis against the real server: every answer to any request conforms to docs/openapi.json.

`CONTRACT_EXAMPLES=500 pytest tests/e2e/test_contract.py --hypothesis-seed=1` sends more requests, at random.
"""

import base64
import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from scripts.write_openapi import OPENAPI
from support.pictures import jpeg
from support.serving import Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
    allow_header_conformance,
]
PICTURES = [jpeg(8, 8, seed) for seed in range(3)]
NUM_EXAMPLES = os.environ.get("CONTRACT_EXAMPLES")

# Fields that a sensible request draws anew.
_SHOWN = {"img", "img_id", "imgs", "texts", "model", "messages", "input", "query", "documents", "prompt", "image"}
_SHOWN |= {"images", "inputs", "parameters"}

Cases = st.SearchStrategy[schemathesis.Case]

contract = schemathesis.openapi.from_path(OPENAPI)


@contract.hook
def before_generate_case(context: schemathesis.HookContext, strategy: Cases) -> Cases:
    """Send half of the requests as generated, and make the other half likely to reach the model."""
    return strategy | strategy.flatmap(sensible)


@st.composite
def sensible(draw: st.DrawFn, case: schemathesis.Case) -> schemathesis.Case:
    """Give `case` a real picture and an existing model, and keep few of its options, so that they rarely conflict."""
    body = case.body
    if isinstance(body, dict):
        others = sorted(body.keys() - _SHOWN)
        kept = draw(st.sets(st.sampled_from(others), max_size=3)) if others else set()
        case.body = {**{name: body[name] for name in kept}, **draw(shown(case))}
    return case


@st.composite
def shown(draw: st.DrawFn, case: schemathesis.Case) -> dict[str, Any]:
    """Draw the picture fields of `case` for its media type."""
    picture: bytes | str = draw(st.sampled_from(PICTURES))
    if case.media_type != "multipart/form-data":
        picture = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    if case.path == "/batch":
        return {"imgs": [picture] * draw(st.integers(1, 3))}
    if case.path in ("/v1/rerank", "/v2/rerank"):
        texts = draw(st.lists(st.text("ab", min_size=1, max_size=20), min_size=1, max_size=3))
        return draw(
            st.sampled_from([{"query": picture, "documents": texts}, {"query": texts[0], "documents": [picture] * 2}])
        )
    if case.path == "/v1/embeddings":
        return {"model": "blip2", "input": draw(st.lists(st.sampled_from([picture, "a", {"text": "b"}]), min_size=1))}
    if case.path == "/match":
        return {"img": picture, "texts": draw(st.lists(st.text("ab", min_size=1), min_size=1, max_size=3))}
    if case.path == "/v1/completions":
        return {"model": "blip2", "image": picture, "prompt": draw(st.text(max_size=20))}
    if case.path.startswith(("/api/", "/hf/")):
        return draw(of_clients(case.path, picture))
    if not case.path.startswith("/v1"):
        return {"img": picture}
    texts = draw(st.lists(st.text(max_size=20), max_size=2))
    if case.path == "/v1/responses":
        shown = [
            {"type": "input_image", "image_url": picture},
            *({"type": "input_text", "text": text} for text in texts),
        ]
        return {"model": "blip2", "input": [{"role": "user", "content": shown}]}
    parts = [{"type": "image_url", "image_url": {"url": picture}}, *({"type": "text", "text": text} for text in texts)]
    return {"model": "blip2", "messages": [{"role": "user", "content": parts}]}


@st.composite
def of_clients(draw: st.DrawFn, path: str, picture: str) -> dict[str, Any]:
    """Draw what Ollama's clients or the Hub's send to `path`."""
    text = draw(st.text(max_size=20))
    if path.startswith("/api/"):
        message = {"role": "user", "content": text, "images": [picture]}
        return {"model": "blip2", "prompt": text, "images": [picture], "messages": [message]}
    if path == "/hf/visual-question-answering":
        return {"inputs": {"image": picture, "question": text}}
    labels = {"candidate_labels": draw(st.lists(st.text("ab", min_size=1), min_size=1, max_size=3))}
    return {"inputs": picture, "parameters": labels if path.startswith("/hf/zero") else {"max_new_tokens": 3}}


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@contract.parametrize()
@hypothesis.settings(max_examples=int(NUM_EXAMPLES or 15), derandomize=NUM_EXAMPLES is None, deadline=None)
def test_every_answer_is_as_declared(case: schemathesis.Case, server: Server, session: requests.Session) -> None:
    case.call_and_validate(base_url=server.url, session=session, checks=CHECKS)
