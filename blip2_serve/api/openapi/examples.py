"""Examples for every endpoint: a body of each media type, and the demo checkpoint's answer to it.

In a multipart form, `demo.jpeg` stands for the repository's file of that name; elsewhere the same picture is inline,
40 pixels wide and in three colours.
"""

from typing import Any

from blip2_serve.api.native.fields import endpoints

PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAACgAAAAoAgMAAADxkFD+AAAADFBMVEWLk38oUNN9OX8AAAC9/gu/AAAAcUlEQVR4"
    "2r3QsQ0CMRBE0WdrC3BAQUdMTJf0gPuBwPlZMgG6OxwRwUZfq9nZ0aSrbbJ/4PjY1h37t7PWNnzU9XYIghNZoXAm"
    "i8lhkSyyJBHK5lvE/GIYb3UmoRqCuNB0mRJ0TUjLHHKou9n9iP78XZMvCOMVozf4t+0AAAAASUVORK5CYII="
)
FILE = "demo.jpeg"
_BACKGROUND = "what color is the background?"

_CHAT = {
    "model": "blip2",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": _BACKGROUND},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
        }
    ],
}
_COMPLETION = {
    "id": "chatcmpl-c56d688f6a5b4d3faff9948581ddef23",
    "object": "chat.completion",
    "created": 1795252495,
    "model": "demo",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "blue", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 27, "completion_tokens": 2, "total_tokens": 29},
}
_RESPONSE_REQUEST = {
    "model": "blip2",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": _BACKGROUND},
                {"type": "input_image", "image_url": PICTURE},
            ],
        }
    ],
}
_RESPONSE = {
    "id": "resp_7f7e3b0a5cb84d0c8b1b7a6a3f8e2f14",
    "object": "response",
    "created_at": 1795252495,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": 30,
    "metadata": {},
    "model": "demo",
    "output": [
        {
            "id": "msg_2f0c43a5b2c24c0f9d27e5a2f5c6f8aa",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "blue", "annotations": [], "logprobs": []}],
        }
    ],
    "parallel_tool_calls": False,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": False,
    "temperature": 0.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "none",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "auto",
    "usage": {
        "input_tokens": 27,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 29,
    },
}
_COMPLETION_REQUEST = {"model": "blip2", "prompt": "a yellow star to the left of", "image": PICTURE}
_TEXT_COMPLETION = {
    "id": "cmpl-0d1b3f7ac0f34c61b5b52a3a1a0f4a55",
    "object": "text_completion",
    "created": 1795252495,
    "model": "demo",
    "choices": [{"index": 0, "text": " a red diamond on a blue background", "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32},
}

_EMBEDDINGS = {"model": "blip2", "input": ["a yellow star", {"image": PICTURE}], "encoding_format": "base64"}
_VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": index, "embedding": "6LtZPQ..."} for index in range(2)],
    "model": "demo-itm",
    "usage": {"prompt_tokens": 21, "total_tokens": 21},
}
_RERANK = {"model": "blip2", "query": PICTURE, "documents": ["a green circle", "a yellow star"], "top_n": 1}

_INLINE = PICTURE.partition(",")[2]  # nothing but base64, as these clients write it
_STATISTICS = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 67_301_220,
    "load_duration": 0,
    "prompt_eval_count": 27,
    "prompt_eval_duration": 35_120_400,
    "eval_count": 2,
    "eval_duration": 32_180_820,
}
_DETAILS = {
    "parent_model": "",
    "format": "safetensors",
    "family": "opt",
    "families": ["opt"],
    "parameter_size": "",
    "quantization_level": "none",
}
_SAID = {"model": "blip2", "created_at": "2026-11-27T22:39:34.615527Z"}
_OLLAMA = {"model": "blip2", "stream": False}
_OLLAMA_CHAT = {**_OLLAMA, "messages": [{"role": "user", "content": _BACKGROUND, "images": [_INLINE]}]}
_VQA = {"inputs": {"image": _INLINE, "question": _BACKGROUND}}
_ZERO_SHOT = {"inputs": _INLINE, "parameters": {"candidate_labels": ["a yellow star", "nothing"]}}
# By path: a body, and the answer to it.
_OF_CLIENTS: dict[str, tuple[dict[str, Any], Any]] = {
    "/api/generate": (
        {**_OLLAMA, "prompt": _BACKGROUND, "images": [_INLINE]},
        {**_SAID, "response": "blue", **_STATISTICS},
    ),
    "/api/chat": (_OLLAMA_CHAT, {**_SAID, "message": {"role": "assistant", "content": "blue"}, **_STATISTICS}),
    "/api/show": (
        {"model": "blip2"},
        {
            "details": _DETAILS,
            "model_info": {"general.architecture": "blip-2", "general.basename": "demo"},
            "capabilities": ["completion", "vision"],
            "modified_at": "2026-11-27T22:39:20.350409Z",
            "modelfile": "FROM demo",
            "parameters": "num_predict 30",
            "template": "Question: {{ .Prompt }} Answer:",
        },
    ),
    "/hf/image-to-text": (
        {"inputs": _INLINE, "parameters": {"max_new_tokens": 3}},
        [{"generated_text": "a yellow star"}],
    ),
    "/hf/visual-question-answering": (_VQA, [{"score": 0.9999, "answer": "blue"}]),
    "/hf/zero-shot-image-classification": (
        _ZERO_SHOT,
        [{"label": "a yellow star", "score": 0.999}, {"label": "nothing", "score": 0.001}],
    ),
}


def _ranking(version: str) -> dict[str, Any]:
    return {
        "id": "5e1b1b0e-6f0e-4c59-9f6e-1d5b7f0f6a52",
        "model": "demo-itm",
        "results": [{"index": 1, "relevance_score": 0.96}],
        "meta": {"api_version": {"version": version}},
    }


def add_examples(spec: dict[str, Any]) -> dict[str, Any]:
    """Add the examples. Changes `spec` in place and returns it."""
    paths = spec["paths"]
    for path, fields in endpoints().items():
        post = paths[path]["post"]
        for kind, body in post["requestBody"]["content"].items():
            if kind.startswith("image/") or kind == "application/octet-stream":
                continue  # a file: no document can hold it
            body["example"] = {
                **_picture(path, FILE if kind == "multipart/form-data" else PICTURE),
                **fields.example.fields,
            }
        (answered,) = post["responses"]["200"]["content"].values()
        answered["example"] = fields.example.answer
    _add_streamed_examples(paths["/v1/chat/completions"]["post"], _CHAT, _COMPLETION)
    _add_streamed_examples(paths["/v1/responses"]["post"], _RESPONSE_REQUEST, _RESPONSE)
    _add_streamed_examples(paths["/v1/completions"]["post"], _COMPLETION_REQUEST, _TEXT_COMPLETION)
    _add_example(paths["/v1/embeddings"]["post"], _EMBEDDINGS, _VECTORS)
    for version in ("1", "2"):
        _add_example(paths[f"/v{version}/rerank"]["post"], _RERANK, _ranking(version))
    for path, (body, answer) in _OF_CLIENTS.items():
        _add_example(paths[path]["post"], body, answer)
    paths["/v1/models/{model}"]["get"]["parameters"][0]["example"] = "blip2"
    return spec


def _picture(path: str, picture: str) -> dict[str, Any]:
    return {"imgs": [picture]} if path == "/batch" else {"img": picture}


def _add_example(post: dict[str, Any], body: dict[str, Any], answer: dict[str, Any]) -> None:
    post["requestBody"]["content"]["application/json"]["example"] = body
    post["responses"]["200"]["content"]["application/json"]["example"] = answer


def _add_streamed_examples(post: dict[str, Any], body: dict[str, Any], answer: dict[str, Any]) -> None:
    post["requestBody"]["content"]["application/json"]["examples"] = {
        "whole": {"summary": "The answer at once", "value": body},
        "stream": {"summary": "The answer as it grows", "value": {**body, "stream": True}},
    }
    post["responses"]["200"]["content"]["application/json"]["example"] = answer
