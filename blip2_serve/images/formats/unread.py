"""Formats that are not read, known by their first bytes, so that their refusal can say what to do."""

import re

_HTML = re.compile(rb"<(?:!doctype html|html)\b", re.IGNORECASE)
_SVG = re.compile(rb"<(?:\w{1,16}:)?svg\b")
_SAVE_AS = "save it as JPEG or PNG"
_SIGNATURES = (
    (b"\xff\x0a", "JPEG XL", _SAVE_AS),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", _SAVE_AS),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", _SAVE_AS),
    (b"%PDF-", "a PDF", "send a page of it as JPEG or PNG"),
)


def what_to_do(data: bytes) -> str | None:
    """Say which format a file has that is not read, and what to do; None for any other file."""
    start = data[:8192].removeprefix(b"\xef\xbb\xbf")
    for signature, name, advice in _SIGNATURES:
        if start.startswith(signature):
            return f"The picture is {name}, which is not read here: {advice}."
    markup = start.lstrip()
    if _HTML.match(markup):
        return "The file is a web page and no picture: send the picture itself, or the picture's own URL."
    if markup.startswith(b"<") and _SVG.search(markup):
        return "The picture is SVG, a drawing and not pixels: draw it first, and send it as PNG."
    return None
