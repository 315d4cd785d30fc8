"""A request's body to plain values: multipart, urlencoded or JSON, none of which can make this server fetch a URL.

BentoML's own parser fetches strings in image fields, believes the Content-Type of a part and ignores unknown
fields; this one reads the bytes itself.
"""

import asyncio
import base64
import binascii
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from blip2_serve.errors import InvalidField, InvalidImage, RequestError, UnsupportedBody

_DATA_URI = re.compile(r"data:[^,]{0,256},", re.IGNORECASE)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WHITESPACE = re.compile(r"\s+")
# More than any endpoint has, so that a repeated or unknown field is named and not just counted.
_MAX_FIELDS = 32
_SMALL_BODY = 65_536  # bytes that are parsed faster than a thread is woken


async def read_body(request: Request) -> dict[str, object]:
    """The fields of a request by name: `img` as bytes, the others as they came (text, or JSON values).

    How many bytes there may be is `limits.BodyLimit`'s business.

    Raises:
        InvalidField: the body is malformed, or a field comes twice.
        InvalidImage: `img` is text that holds no picture.
        UnsupportedBody: the Content-Type is not one of the three.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            return await _multipart_values(request)
        if kind == "application/x-www-form-urlencoded":
            return await _off_loop(_urlencoded_values, await request.body())
        if kind == "application/json":
            return await _off_loop(_json_values, await request.body())
    except ClientDisconnect:
        raise InvalidField("The upload ended before its end: send it again.") from None
    raise UnsupportedBody(
        f"The Content-Type {kind[:64]!r} is not read here: send multipart/form-data,"
        " application/x-www-form-urlencoded or application/json."
    )


async def _off_loop(parse: Callable[[bytes], dict[str, object]], body: bytes) -> dict[str, object]:
    """Parse where it cannot hold up other requests: twenty megabytes of JSON take a second."""
    return parse(body) if len(body) < _SMALL_BODY else await asyncio.to_thread(parse, body)


async def _multipart_values(request: Request) -> dict[str, object]:
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=_MAX_FIELDS,
        max_fields=_MAX_FIELDS,
        max_part_size=sys.maxsize,
    )
    parser.spool_max_size = sys.maxsize  # bodies fit in memory: never spill to a disk that may be read-only
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, UnicodeError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise InvalidField(f"The multipart form cannot be read ({reason}): check its boundary.") from None
    try:
        return _form_values([(name, await _part_value(name, part)) for name, part in form.multi_items()])
    finally:
        await form.close()


async def _part_value(name: str, part: UploadFile | str) -> bytes | str | None:
    if isinstance(part, str):
        return part if name == "img" else _unquoted(part)
    return await part.read() if name == "img" else _unquoted(await _text_of_file(name, part))


async def _text_of_file(name: str, part: UploadFile) -> str:
    """The Swagger page, like other browser code, sends a JSON value as a nameless file (a Blob)."""
    if part.content_type != "application/json":
        raise InvalidField(f"{name[:64]} came as a file: send it as a text field.", param=name[:64])
    try:
        return (await part.read()).decode()
    except UnicodeDecodeError:
        raise InvalidField(f"{name[:64]} is no UTF-8: send it as a text field.", param=name[:64]) from None


def _urlencoded_values(body: bytes) -> dict[str, object]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidField("The form cannot be read: send name=value pairs in UTF-8, joined by &.") from None
    return _form_values(pairs)


def _form_values(pairs: Sequence[tuple[str, bytes | str | None]]) -> dict[str, object]:
    """An empty text means "not given": that is how a browser sends a field nobody filled in."""
    _refuse_repeated(pairs)
    given: dict[str, object] = {name: value for name, value in pairs if value is not None and value != ""}
    return _with_image(given)


def _unquoted(text: str) -> str | None:
    """BentoML's client and the Swagger page send text as JSON (`"hi"`), curl sends it raw (`hi`)."""
    if text == "null":
        return None
    if text.startswith('"') and text.endswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return text


def _json_values(body: bytes) -> dict[str, object]:
    try:
        pairs = json.loads(body, object_pairs_hook=_refuse_repeated_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidField('The body is no valid JSON object: send {"img": "<base64>", "txt": "..."}.') from None
    if not isinstance(pairs, dict):
        raise InvalidField('The body is no JSON object: send {"img": "<base64>", "txt": "..."}.')
    return _with_image({name: value for name, value in pairs.items() if value is not None})


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _refuse_repeated(pairs)
    return dict(pairs)


def _refuse_repeated(pairs: Sequence[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidField(f"{name[:64]} was sent twice: send it once.", param=name[:64])
        seen.add(name)


def _with_image(values: dict[str, object]) -> dict[str, object]:
    if "img" in values and not isinstance(values["img"], bytes):
        values["img"] = decode_inline_image(values["img"])
    return values


def decode_inline_image(value: object) -> bytes:
    """The bytes of a picture that came as base64 or as a data: URI.

    Raises:
        InvalidImage: the text is a URL, or no base64.
    """
    if not isinstance(value, str):
        raise _not_inline("is no string")
    if _URL.match(value):
        raise _not_inline("is a URL, and URLs are not fetched")
    header = _DATA_URI.match(value)
    if header and not header.group().lower().endswith(";base64,"):
        raise _not_inline("is a data: URI without base64")
    text = _WHITESPACE.sub("", value[header.end() :] if header else value)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _not_inline("is neither base64 nor a data: URI") from None


def _not_inline(problem: str) -> RequestError:
    return InvalidImage(f"img {problem}: send the picture as a file part, or its bytes as base64.", param="img")
