"""Read a request body (multipart, urlencoded, JSON or a picture) as plain values. A URL stays an `ImageUrl`, unfetched.

BentoML's parser fetches strings in image fields, trusts the Content-Type of a part and ignores unknown fields, so this
module and those beside it, `forms`, `large_json` and `raw_body`, read the bytes themselves.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import NoReturn

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from blip2_serve.api.forms import check_names, form_values, multipart_parts, urlencoded_parts, with_pictures
from blip2_serve.api.large_json import parse_json
from blip2_serve.api.raw_body import begins_as_picture, is_raw_kind, raw_values
from blip2_serve.clients import current_client
from blip2_serve.errors import InvalidField, UnsupportedBody
from blip2_serve.images import Upload
from blip2_serve.tasks.load.gate import FairGate

_SMALL_BODY = 65_536  # in bytes; below this, parsing is faster than waking a thread


async def read_body(
    request: Request, repeatable: frozenset[str] = frozenset(), *, takes_picture: bool = True
) -> dict[str, object]:
    """Read the fields by name: `img` as an `ImageSource`, the others as sent (text or JSON values).

    A form may repeat the fields in `repeatable`; a repeated field becomes a list. `imgs` becomes a list of
    `ImageSource`s, with an `InvalidImage` in place of each entry that is no picture. Where the endpoint
    `takes_picture`, the body may be nothing but `img`. `BodyLimit` bounds its size and `Pace` its time; their errors
    pass through. `request` does not keep the body.

    Raises:
        InvalidField: the body is malformed, or a field comes twice.
        InvalidImage: `img` is neither a file, a URL nor base64.
        UnsupportedBody: the Content-Type is none of those.
    """
    name, options = parse_options_header(request.headers.get("content-type"))
    kind = name.decode("latin-1")
    if kind == "multipart/form-data":
        return await _whole(_read_multipart(request, options, repeatable))
    if kind == "application/json":
        return await _whole(_parse(_json_values, request))
    if kind == _FORM or (takes_picture and (is_raw_kind(kind) or not kind)):
        return await _whole(_parse(partial(_form_or_picture, request, kind, repeatable, takes_picture), request))
    raise _unsupported(kind, takes_picture)


_FORM = "application/x-www-form-urlencoded"


def _form_or_picture(
    request: Request, kind: str, repeatable: frozenset[str], takes_picture: bool, body: bytearray
) -> dict[str, object]:
    if takes_picture and (is_raw_kind(kind) or begins_as_picture(body)):
        return raw_values(body, request.scope.get("query_string", b""), repeatable)
    if kind != _FORM:
        raise _unsupported(kind, takes_picture)
    return form_values(urlencoded_parts(body, repeatable), repeatable)


def _unsupported(kind: str, takes_picture: bool) -> UnsupportedBody:
    picture = ", or a picture as image/* or application/octet-stream" if takes_picture else ""
    return UnsupportedBody(
        f"The Content-Type {kind.encode('ascii', 'replace').decode()[:64]!r} is not read here: send"
        f" multipart/form-data, application/x-www-form-urlencoded or application/json{picture}."
    )


async def read_json_body(request: Request, example: str) -> dict[str, object]:
    """Read a JSON object without its null values; error messages show `example`.

    JSON comes under many types: curl's default is that of a form, some clients send none.

    Raises:
        InvalidField: the body is malformed, or a field comes twice.
        UnsupportedBody: the Content-Type says that the body is a multipart form, or a file.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind.startswith((b"multipart/", b"image/")) or kind == b"application/octet-stream":
        raise UnsupportedBody("Only JSON is read here: send it with Content-Type: application/json.")
    return await _whole(_parse(partial(_json_object, example=example), request))


async def read_json_or_picture(request: Request, example: str) -> dict[str, object]:
    """Read a JSON object without its null values, or a picture as `inputs`; error messages show `example`.

    A picture comes under any type or none, and never begins with a brace.

    Raises:
        InvalidField: the body is malformed, or a field comes twice.
        UnsupportedBody: the Content-Type says that the body is a multipart form.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind.startswith(b"multipart/"):
        raise UnsupportedBody("No form is read here: send the picture itself as the body, or JSON.")

    def values(body: bytearray) -> dict[str, object]:
        if kind == b"application/json" or body[:64].lstrip().startswith(b"{"):
            return _json_object(body, example)
        picture = Upload(bytes(body))
        body.clear()
        return {"inputs": picture}

    return await _whole(_parse(values, request))


async def _whole(reading: Coroutine[object, object, dict[str, object]]) -> dict[str, object]:
    try:
        return await reading
    except ClientDisconnect:
        raise InvalidField("The upload ended before its end: send it again.") from None


async def _read_multipart(
    request: Request, options: dict[bytes, bytes], repeatable: frozenset[str]
) -> dict[str, object]:
    parts = await multipart_parts(request, options, repeatable)
    num_bytes = sum(len(value) for _, value in parts if isinstance(value, str))
    return await _off_the_loop(partial(form_values, parts, repeatable), num_bytes)


async def _parse(parse: Callable[[bytearray], dict[str, object]], request: Request) -> dict[str, object]:
    """Collect the body and parse it; nobody keeps it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return await _off_the_loop(partial(parse, body), len(body))


# Parsing holds the interpreter's lock for milliseconds at a time, and the event loop waits for every thread that does.
_parsing = FairGate(2)


async def _off_the_loop(parse: Callable[[], dict[str, object]], num_bytes: int) -> dict[str, object]:
    if num_bytes < _SMALL_BODY:
        return parse()
    async with _parsing.place(current_client.get()):
        return await asyncio.to_thread(parse)


def _json_values(body: bytearray) -> dict[str, object]:
    return with_pictures(_json_object(body, '{"img": "<base64>", "txt": "..."}'))


def _json_object(body: bytearray, example: str) -> dict[str, object]:
    try:
        pairs = parse_json(body, _refuse_repeated_keys, _refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidField(f"The body is no valid JSON object: send {example}.") from None
    if not isinstance(pairs, dict):
        raise InvalidField(f"The body is no JSON object: send {example}.")
    return {name: value for name, value in pairs.items() if value is not None}


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    check_names(pairs)
    return dict(pairs)
