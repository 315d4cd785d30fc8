"""Parse a request body (multipart, urlencoded or JSON) into plain values. A URL stays an `ImageUrl`, unfetched.

BentoML's parser fetches strings in image fields, trusts the Content-Type of a part and ignores unknown fields, so this
module reads the bytes itself.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import NoReturn
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from blip2_serve.api.image_text import image_source
from blip2_serve.errors import DeadlineExceeded, InvalidField, InvalidImage, UnsupportedBody
from blip2_serve.images import ImageSource, Upload

_PICTURES = ("img", "imgs")
# Above the field count of every endpoint, so that the error names a repeated or unknown field.
_MAX_FIELDS = 32
# Above the longest list that an endpoint takes as a repeated field.
_MAX_REPEATED_FIELDS = 128
# Above any valid text; parsing a longer one would block the event loop for every request.
_MAX_TEXT_CHARACTERS = 2**20
# A base64 picture has a few per cent of escapes in a form, and one comma in JSON; parsing time grows with both.
_MAX_ESCAPES = 1_000_000
_MAX_JSON_VALUES = 100_000
_SMALL_BODY = 65_536  # in bytes; below this, parsing is faster than waking a thread
UPLOAD_TIMEOUT_S = 300.0


async def read_body(request: Request, repeatable: frozenset[str] = frozenset()) -> dict[str, object]:
    """Read the fields by name: `img` as an `ImageSource`, the others as sent (text or JSON values).

    A form may repeat the fields in `repeatable`; a repeated field becomes a list. `imgs` becomes a list of
    `ImageSource`s, with an `InvalidImage` in place of each entry that is no picture. `BodyLimit` bounds the size, and
    its errors pass through. `request` does not keep the body.

    Raises:
        InvalidField: the body is malformed, or a field comes twice.
        InvalidImage: `img` is neither a file, a URL nor base64.
        UnsupportedBody: the Content-Type is not one of the three.
        DeadlineExceeded: the upload took longer than `UPLOAD_TIMEOUT_S`.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    read = _READERS.get(kind.decode("latin-1"))
    if read is None:
        raise UnsupportedBody(
            f"The Content-Type {kind.decode('ascii', 'replace')[:64]!r} is not read here: send multipart/form-data,"
            " application/x-www-form-urlencoded or application/json."
        )
    return await _in_time(read(request, options, repeatable))


async def read_json_body(request: Request, example: str) -> dict[str, object]:
    """Read a JSON object without its null values; error messages show `example`.

    Raises:
        InvalidField: the body is malformed, or a field comes twice.
        UnsupportedBody: the Content-Type is not application/json.
        DeadlineExceeded: the upload took longer than `UPLOAD_TIMEOUT_S`.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind != b"application/json":
        raise UnsupportedBody("Only JSON is read here: send it with Content-Type: application/json.")
    return await _in_time(_parse(partial(_json_object, example=example), request))


async def _in_time(reading: Coroutine[object, object, dict[str, object]]) -> dict[str, object]:
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            return await reading
    except ClientDisconnect:
        raise InvalidField("The upload ended before its end: send it again.") from None
    except TimeoutError:
        raise DeadlineExceeded(f"The upload took longer than {UPLOAD_TIMEOUT_S:g} s: send fewer bytes.") from None


async def _read_multipart(
    request: Request, options: dict[bytes, bytes], repeatable: frozenset[str]
) -> dict[str, object]:
    try:
        form = await _multipart_parser(request, options, _max_fields(repeatable)).parse()
    except (MultiPartException, FormParserError, UnicodeError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise InvalidField(f"The multipart form cannot be read ({reason}): check its boundary.") from None
    try:
        pairs = [(name, await _part_value(name, part)) for name, part in form.multi_items()]
        return _form_values(pairs, repeatable)
    finally:
        await form.close()


def _max_fields(repeatable: frozenset[str]) -> int:
    return _MAX_FIELDS + _MAX_REPEATED_FIELDS * len(repeatable)


def _multipart_parser(request: Request, options: dict[bytes, bytes], max_fields: int) -> MultiPartParser:
    """Build a parser that decodes as UTF-8 only: a charset chosen by the sender could take hours."""
    boundary = options.get(b"boundary", b"").decode("latin-1")
    parser = MultiPartParser(
        Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'} if boundary else {"content-type": ""}),
        request.stream(),
        max_files=max_fields,
        max_fields=max_fields,
        max_part_size=sys.maxsize,
    )
    parser.spool_max_size = sys.maxsize  # bodies fit in memory; the disk may be read-only
    return parser


async def _part_value(name: str, part: UploadFile | str) -> bytes | str | None:
    if name in _PICTURES:
        return part if isinstance(part, str) else await part.read() or _empty_file(part)
    return _unquoted(part if isinstance(part, str) else await _text_of_file(name, part))


def _empty_file(part: UploadFile) -> bytes | None:
    """Read a nameless file as not given: browsers send one for a file field left empty."""
    return b"" if part.filename else None


async def _text_of_file(name: str, part: UploadFile) -> str:
    """Accept a JSON file part: browser code, the Swagger page included, sends a JSON value as a nameless Blob."""
    if part.content_type != "application/json":
        raise InvalidField(f"{name[:64]} came as a file: send it as a text field.", about=name[:64])
    try:
        return (await part.read()).decode()
    except UnicodeDecodeError:
        raise InvalidField(f"{name[:64]} is no UTF-8: send it as a text field.", about=name[:64]) from None


async def _read_urlencoded(
    request: Request, options: dict[bytes, bytes], repeatable: frozenset[str]
) -> dict[str, object]:
    return await _parse(partial(_urlencoded_values, repeatable=repeatable), request)


async def _read_json(request: Request, options: dict[bytes, bytes], repeatable: frozenset[str]) -> dict[str, object]:
    return await _parse(_json_values, request)


_READERS = {
    "multipart/form-data": _read_multipart,
    "application/x-www-form-urlencoded": _read_urlencoded,
    "application/json": _read_json,
}


async def _parse(parse: Callable[[bytes], dict[str, object]], request: Request) -> dict[str, object]:
    body = b"".join([chunk async for chunk in request.stream()])
    return parse(body) if len(body) < _SMALL_BODY else await asyncio.to_thread(parse, body)


def _urlencoded_values(body: bytes, repeatable: frozenset[str]) -> dict[str, object]:
    if body.count(b"%") > _MAX_ESCAPES:
        raise InvalidField("The form has too many escapes: send the picture as multipart/form-data.")
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=_max_fields(repeatable),
        )
    except ValueError:
        raise InvalidField("The form cannot be read: send name=value pairs in UTF-8, joined by &.") from None
    # BentoML's client sends an urlencoded form of JSON values when it has no file.
    texts = [(name, value if name in _PICTURES else _unquoted(value)) for name, value in pairs]
    return _form_values(texts, repeatable)


def _form_values(pairs: Sequence[tuple[str, bytes | str | None]], repeatable: frozenset[str]) -> dict[str, object]:
    """Drop empty texts, which browsers send for untouched fields; keep them among the values of a repeated field."""
    _check_names([pair for pair in pairs if pair[0] not in repeatable])
    given: dict[str, object] = {name: value for name, value in pairs if value is not None and value != ""}
    for name in repeatable:
        values = [value or "" for each, value in pairs if each == name]
        if len(values) > 1:
            given[name] = values
    return _with_image(given)


def _unquoted(text: str) -> str | None:
    """Accept JSON text (`"hi"`, from BentoML's client and the Swagger page) and raw text (`hi`, from curl)."""
    if len(text) > _MAX_TEXT_CHARACTERS:
        raise InvalidField(f"A text field has more than {_MAX_TEXT_CHARACTERS} characters: shorten it.")
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
    return _with_image(_json_object(body, '{"img": "<base64>", "txt": "..."}'))


def _json_object(body: bytes, example: str) -> dict[str, object]:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _MAX_JSON_VALUES:
        raise InvalidField(f"The body has more than {_MAX_JSON_VALUES} values: send fewer turns.")
    try:
        pairs = json.loads(body, object_pairs_hook=_refuse_repeated_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidField(f"The body is no valid JSON object: send {example}.") from None
    if not isinstance(pairs, dict):
        raise InvalidField(f"The body is no JSON object: send {example}.")
    return {name: value for name, value in pairs.items() if value is not None}


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _check_names(pairs)
    return dict(pairs)


def _check_names(pairs: Sequence[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if not name.isascii():
            raise InvalidField(f"There is no field {name[:64]!a} here: the names of fields are ASCII.")
        if name in seen:
            raise InvalidField(f"{name[:64]} was sent twice: send it once.", about=name[:64])
        seen.add(name)


def _with_image(values: dict[str, object]) -> dict[str, object]:
    if "img" in values:
        values["img"] = _source_of(values["img"])
    if "imgs" in values:
        imgs = [values["imgs"]] if isinstance(values["imgs"], bytes | str) else values["imgs"]
        values["imgs"] = [_source_or_error(img) for img in imgs] if isinstance(imgs, list) else imgs
    return values


def _source_of(img: object) -> ImageSource:
    return Upload(img) if isinstance(img, bytes) else image_source(img)


def _source_or_error(img: object) -> ImageSource | InvalidImage:
    try:
        return _source_of(img)
    except InvalidImage as error:
        return error
