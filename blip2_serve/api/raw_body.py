"""Read a body that is nothing but a picture, with the other fields in the query string."""

from blip2_serve.api.forms import form_values, urlencoded_parts
from blip2_serve.errors import InvalidField

# What a JPEG, PNG, GIF or TIFF begins with. No form does: the bytes after a letter are none of a field's name.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
# WebP; BMP, whose reserved bytes are zero; AVIF and HEIC: where the mark stands.
_MARKS = ((8, b"WEBP", b"RIFF"), (6, b"\0\0\0\0", b"BM"), (4, b"ftyp", b"\0"))


def is_raw_kind(kind: str) -> bool:
    """Return True if a Content-Type says that the body is a picture, or bytes of whatever kind."""
    return kind.startswith("image/") or kind == "application/octet-stream"


def begins_as_picture(body: bytearray) -> bool:
    """Return True if `body` begins as the files of a picture do, and no form and no JSON.

    curl names any `--data-binary` a form, and some clients name no kind at all.
    """
    return body.startswith(_BEGINNINGS) or any(
        body.startswith(first) and body.startswith(mark, place) for place, mark, first in _MARKS
    )


def raw_values(body: bytearray, query: bytes, repeatable: frozenset[str]) -> dict[str, object]:
    """Read `body` as the file `img`, and the fields of `query` as those of a form; `body` is empty afterwards.

    Raises:
        InvalidField: the query is malformed, or a field comes twice.
    """
    try:
        fields = urlencoded_parts(bytearray(query), repeatable)
    except InvalidField:
        raise InvalidField("The query string cannot be read: write name=value pairs in UTF-8, joined by &.") from None
    picture = bytes(body)
    body.clear()
    return form_values([*fields, ("img", picture)], repeatable)
