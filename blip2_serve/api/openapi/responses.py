"""Describe the answers of each endpoint: their headers, and the errors, all in one shape."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from blip2_serve.api.middleware.plain_errors import PREFIXES, PlainError
from blip2_serve.api.native.answers import Error
from blip2_serve.api.native.batch import Answered
from blip2_serve.api.native.caption_several import Captioned
from blip2_serve.api.native.embed import Embedded
from blip2_serve.api.native.fields import endpoints
from blip2_serve.api.openai.chat.answers import ChatCompletionChunk
from blip2_serve.errors import Blip2Error, RequestError, StartupError
from blip2_serve.tasks.retrieval.verbs import Match

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "A field is missing, unknown or out of bounds, or the picture is damaged",
    404: "The picture of this id is not kept any more, or there is no such model",
    413: "Too many bytes or pixels",
    415: "The body's or the picture's format is not served",
    429: "The server has enough to do",
    500: "The server failed on this request",
    503: "The server is going down",
    504: "The answer took longer than the deadline",
}
# Paths on which only some of the errors can happen.
_ERRORS_OF = {
    "/batch": tuple(status for status in _ERRORS if status != 404),  # it takes no ids
    "/v1/models": (),
    "/v1/models/{model}": (404,),
    **dict.fromkeys(("/api/tags", "/api/ps", "/api/version"), ()),
}


def _one_of(*models: str) -> dict[str, Any]:
    return {"anyOf": [{"$ref": _REF.format(model=model)} for model in models]}


def _header(description: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema}


_IMAGE_ID = {
    "X-Image-Id": _header(
        "the picture's id, to be sent as img_id from then on", {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    ),
    "X-Truncated-Image": _header(
        "the picture is cut short, and what is there was taken", {"type": "string", "enum": ["true"]}, required=False
    ),
}
_MODEL = {"X-Model": _header("the model that answered", {"type": "string"})}
_DROPPED = "earlier turns that did not fit into the context, the oldest"
_COUNT = {"type": "integer", "minimum": 0}
_GUARDS = {
    "X-Guards": _header(
        "options with which it was made again because it looped or was empty", {"type": "string"}, required=False
    )
}
_IGNORED = {"X-Ignored": _header("what was asked for in vain", {"type": "string"}, required=False)}
# What an endpoint of our own tells beside its answer, by the words of `Fields.tells`.
_TOLD = {
    "image": _IMAGE_ID,
    "model": _MODEL,
    "text": {
        "X-New-Tokens": _header("tokens written, the end token among them", _COUNT),
        "X-Finish-Reason": _header("why the answer ended", {"type": "string", "enum": ["stop", "length"]}),
        "Server-Timing": _header("milliseconds by stage", {"type": "string"}),
        **_GUARDS,
    },
    "confidence": {
        "X-Confidence": _header(
            "probability that the caption is right, where it was measured", {"type": "string"}, required=False
        ),
        "X-Needs-Review": _header(
            "the caption is too doubtful to be told", {"type": "string", "enum": ["true"]}, required=False
        ),
    },
    "dropped turns": {"X-Dropped-Turns": _header(_DROPPED, _COUNT)},
}
_WRITTEN_HEADERS = {
    **_IMAGE_ID,
    "X-Dropped-Turns": _header(f"{_DROPPED}, or that were about earlier pictures", _COUNT, required=False),
    **_GUARDS,
    **_IGNORED,
}
_OLLAMA_HEADERS = {name: {**header, "required": False} for name, header in _WRITTEN_HEADERS.items()}
_CAPTION_HEADERS = {**_IMAGE_ID, **_GUARDS, **_IGNORED}
_FOREIGN_HEADERS = {
    **dict.fromkeys(("/v1/chat/completions", "/v1/responses", "/v1/completions"), _WRITTEN_HEADERS),
    **dict.fromkeys(("/v1/embeddings", "/v1/rerank", "/v2/rerank"), _IGNORED),
    **dict.fromkeys(("/api/generate", "/api/chat"), _OLLAMA_HEADERS),
    "/hf/image-to-text": _CAPTION_HEADERS,
    "/hf/visual-question-answering": _CAPTION_HEADERS,
    "/hf/zero-shot-image-classification": {**_IMAGE_ID, **_IGNORED},
}


def _event(description: str, content: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """Describe each event of a stream, as its schema does before OpenAPI 3.2."""
    data = {"type": "string", "anyOf": [*others, {"contentMediaType": "application/json", "contentSchema": content}]}
    return {"type": "object", "description": description, "required": ["data"], "properties": {"data": data}}


_TYPED_EVENT = {
    "type": "object",
    "required": ["type", "sequence_number"],
    "properties": {
        "type": {"type": "string", "description": "as response.output_text.delta"},
        "sequence_number": _COUNT,
        "response": {"$ref": _REF.format(model="ResponseAnswer")},
        "delta": {"type": "string", "description": "what is new of the text"},
    },
}
_DONE = "an event of the stream; the last is [DONE], or an error"
_LAST = "an event of the stream; the last is response.completed, response.incomplete or error"
_STREAMS = {
    "/v1/chat/completions": _event(_DONE, _one_of("ChatCompletionChunk", "Error"), {"const": "[DONE]"}),
    "/v1/completions": _event(_DONE, _one_of("TextCompletion", "Error"), {"const": "[DONE]"}),
    "/v1/responses": _event(_LAST, _TYPED_EVENT),
}
_RETRY = {"Retry-After": _header("seconds to wait; until there is room", _COUNT, required=False)}


def describe_responses(spec: dict[str, Any]) -> dict[str, Any]:
    """Describe the real answers and errors of every endpoint. Changes `spec` in place and returns it."""
    schemas = spec["components"]["schemas"]
    for model in (Answered, Captioned, Embedded, Error, Match, ChatCompletionChunk, PlainError):
        _share(model, schemas)
    for path, event in _STREAMS.items():
        spec["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"] = event
    for path, item in spec["paths"].items():
        for operation in item.values():
            answer = operation["responses"]["200"]
            _name_answer(answer, schemas)
            if headers := _headers(path):
                answer["headers"] = headers
            operation["responses"] = {"200": answer, **_errors(path)}
    schemas["BatchAnswer"]["properties"]["results"]["items"] = _one_of("Answered", "Error")
    schemas["CaptionsAnswer"]["properties"]["captions"]["items"] = {"$ref": _REF.format(model="Captioned")}
    schemas["MatchAnswer"]["properties"]["matches"]["items"] = {"$ref": _REF.format(model="Match")}
    schemas["EmbedAnswer"]["properties"]["embeddings"]["items"] = _one_of("Embedded", "Error")
    return spec


def _headers(path: str) -> dict[str, Any]:
    if path in _FOREIGN_HEADERS:
        return _FOREIGN_HEADERS[path]
    fields = endpoints().get(path)
    if fields is None:
        return {}
    return {name: header for word, headers in _TOLD.items() if word in fields.tells for name, header in headers.items()}


def _share(model: type, schemas: dict[str, Any]) -> None:
    shape = TypeAdapter(model).json_schema(ref_template=_REF, mode="serialization")
    schemas.update(shape.pop("$defs", {}))
    schemas[model.__name__] = shape


def _name_answer(answer: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move an answer's schema, which BentoML writes inline under an invented title, to a named component."""
    content = answer["content"].get("application/json", {})
    title = content.get("schema", {}).get("title")
    if title is not None and "items" in content["schema"]:
        del content["schema"]["title"]
    elif title is not None:
        name = title.removesuffix("IODescriptor")
        schemas[name] = {**content["schema"], "title": name}
        content["schema"] = {"$ref": _REF.format(model=name)}
    answer["description"] = "The answer"


def _errors(path: str) -> dict[str, Any]:
    statuses = _ERRORS_OF.get(path, tuple(_ERRORS))
    shape = PlainError.__name__ if path.startswith(PREFIXES) else Error.__name__
    return {
        str(status): error_answer(f"{_ERRORS[status]} (`{'`, `'.join(_codes(status))}`)", status, shape)
        for status in statuses
    }


def error_answer(description: str, status: int, shape: str = Error.__name__) -> dict[str, Any]:
    """Describe an error answer as an OpenAPI response."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=shape)}}}
    headers = {"headers": _RETRY} if status == 429 else {}
    return {"description": description, **headers, "content": content}


def _codes(status: int) -> list[str]:
    """List the codes of the error tree that have `status`."""
    return sorted({error.code for error in _tree(Blip2Error) if error.status == status})


def _tree(error: type[Blip2Error]) -> Iterator[type[Blip2Error]]:
    if error not in (RequestError, StartupError):  # the first is only a base class, the second is never answered
        yield error
    for kind in error.__subclasses__():
        yield from _tree(kind)
