"""Read forms, multipart and urlencoded, as names and values."""

import json
import sys
from collections.abc import Sequence
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from blip2_serve.api.image_text import image_source
from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.images import ImageSource, Upload

Part = tuple[str, bytes | str | None]

_PICTURES = ("img", "imgs")
# Above the field count of every endpoint, so that the error names a repeated or unknown field.
_MAX_FIELDS = 32
# Above the longest list that an endpoint takes as a repeated field.
_MAX_REPEATED_FIELDS = 128
# Above any valid text; parsing a longer one would block the event loop for every request.
_MAX_TEXT_BYTES = 2**20
# A base64 picture has a few per cent of escapes in a form; parsing time grows with them.
_MAX_ESCAPES = 1_000_000


async def multipart_parts(request: Request, options: dict[bytes, bytes], repeatable: frozenset[str]) -> list[Part]:
    """Read the parts of a multipart body by name; pictures as files or text, the others as text.

    Raises:
        InvalidField: the body is malformed, or a text is too long or came as a file.
    """
    form = await _parsed_form(_multipart_parser(request, options, _max_fields(repeatable)))
    try:
        return [(_utf8(name), await _part_value(name, part)) for name, part in form.multi_items()]
    finally:
        await form.close()


async def uploaded_files(request: Request, max_files: int) -> list[tuple[str, bytes]]:
    """Read the files of a multipart body: the name and the bytes of each.

    Raises:
        InvalidField: the body is malformed or has more files or fields.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise InvalidField("Only multipart/form-data is read here: send files.")
    form = await _parsed_form(_multipart_parser(request, options, max_files))
    try:
        parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        return [(part.filename or "", await part.read()) for part in parts]
    finally:
        await form.close()


def urlencoded_parts(body: bytearray, repeatable: frozenset[str]) -> list[Part]:
    """Read the pairs of an urlencoded body; `body` is empty afterwards.

    Raises:
        InvalidField: the body is malformed, or a text is too long.
    """
    if body.count(b"%") > _MAX_ESCAPES:
        raise InvalidField("The form has too many escapes: send the picture as multipart/form-data.")
    text = body.decode("latin-1")
    body.clear()
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            encoding="latin-1",
            max_num_fields=_max_fields(repeatable),
        )
    except ValueError:
        raise InvalidField("The form cannot be read: send name=value pairs in UTF-8, joined by &.") from None
    # BentoML's client sends an urlencoded form of JSON values when it has no file.
    return [(_utf8(name), _text_value(name, value)) for name, value in pairs]


def form_values(parts: Sequence[Part], repeatable: frozenset[str]) -> dict[str, object]:
    """Drop empty texts, which browsers send for untouched fields; keep them among the values of a repeated field.

    Raises:
        InvalidField: a field comes twice.
        InvalidImage: `img` is neither a file, a URL nor base64.
    """
    check_names([part for part in parts if part[0] not in repeatable])
    given: dict[str, object] = {name: value for name, value in parts if value is not None and value != ""}
    for name in repeatable:
        values = [value or "" for each, value in parts if each == name]
        if len(values) > 1:
            given[name] = values
    return with_pictures(given)


def check_names(pairs: Sequence[tuple[str, object]]) -> None:
    """Check that every name is ASCII and comes once.

    Raises:
        InvalidField: a name is not, or does not.
    """
    seen: set[str] = set()
    for name, _ in pairs:
        if not name.isascii():
            raise InvalidField(f"There is no field {name[:64]!a} here: the names of fields are ASCII.")
        if name in seen:
            raise InvalidField(f"{name[:64]} was sent twice: send it once.", about=name[:64])
        seen.add(name)


def with_pictures(values: dict[str, object]) -> dict[str, object]:
    """Turn `img` into an `ImageSource` and `imgs` into a list of them, each entry that is no picture into its error.

    Raises:
        InvalidImage: `img` is neither a file, a URL nor base64.
    """
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


def _max_fields(repeatable: frozenset[str]) -> int:
    return _MAX_FIELDS + _MAX_REPEATED_FIELDS * len(repeatable)


def _multipart_parser(request: Request, options: dict[bytes, bytes], max_fields: int) -> MultiPartParser:
    """Build a parser that reads texts as Latin-1, one byte a character whatever the bytes; see `_utf8`.

    A charset chosen by the sender could take hours.
    """
    boundary = options.get(b"boundary", b"").decode("latin-1")
    kind = f'multipart/form-data; charset=latin-1; boundary="{boundary}"'
    parser = MultiPartParser(
        Headers({"content-type": kind if boundary else ""}),
        request.stream(),
        max_files=max_fields,
        max_fields=max_fields,
        max_part_size=sys.maxsize,
    )
    parser.spool_max_size = sys.maxsize  # bodies fit in memory; the disk may be read-only
    return parser


async def _parsed_form(parser: MultiPartParser) -> FormData:
    try:
        return await parser.parse()
    except (MultiPartException, FormParserError, UnicodeError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise InvalidField(f"The multipart form cannot be read ({reason}): check its boundary.") from None


async def _part_value(name: str, part: UploadFile | str) -> bytes | str | None:
    if isinstance(part, str):
        return _text_value(name, part)
    if name in _PICTURES:
        return await part.read() or _empty_file(part)
    return _unquoted(await _text_of_file(name, part))


def _text_value(name: str, text: str) -> str | None:
    """Read a text, or a picture sent as one: a URL or base64, which may be long."""
    if name in _PICTURES:
        return text if text.isascii() or len(text) > _MAX_TEXT_BYTES else _utf8(text)
    return _unquoted(_utf8(text))


def _empty_file(part: UploadFile) -> bytes | None:
    """Read a nameless file as not given: browsers send one for a file field left empty."""
    return b"" if part.filename else None


async def _text_of_file(name: str, part: UploadFile) -> str:
    """Accept a JSON file part: browser code, the Swagger page included, sends a JSON value as a nameless Blob."""
    if part.content_type != "application/json":
        raise InvalidField(f"{name[:64]} came as a file: send it as a text field.", about=name[:64])
    try:
        return _bounded((await part.read()).decode())
    except UnicodeDecodeError:
        raise InvalidField(f"{name[:64]} is no UTF-8: send it as a text field.", about=name[:64]) from None


def _utf8(text: str) -> str:
    """Decode UTF-8 that was read as Latin-1; what is no UTF-8 is taken for Latin-1 indeed.

    Reading at once as UTF-8 would make four bytes a character of a picture of 200 MB, for a single emoji in it.
    """
    try:
        return _bounded(text).encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


def _bounded(text: str) -> str:
    if len(text) > _MAX_TEXT_BYTES:
        raise InvalidField(f"A text field has more than {_MAX_TEXT_BYTES} bytes: shorten it.")
    return text


def _unquoted(text: str) -> str | None:
    """Accept JSON text (`"hi"`, from BentoML's client and the Swagger page) and raw text (`hi`, from curl)."""
    if text == "null":
        return None
    if text.startswith('"') and text.endswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return text
