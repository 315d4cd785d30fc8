"""Parse JSON that carries pictures: long strings are lifted out first and read one by one.

`json.loads` decodes the whole body to text, four bytes a character if a single one is outside the Basic Multilingual
Plane, and holds the interpreter's lock from the first character to the last. Quotes are found at memory speed.
"""

import json
import secrets
from collections.abc import Callable

from blip2_serve.errors import InvalidField

Pairs = list[tuple[str, object]]

# Above any text that an endpoint takes, in bytes; what is longer can only be base64.
MAX_TEXT_BYTES = 2**20
# A conversation of the most turns has some thousand.
MAX_VALUES = 20_000
# Some clients escape every slash, and base64 has one in 64 characters.
MAX_ESCAPES = 1_000_000
_LONG = 65_536  # in bytes
# What is left without its long strings; a full batch of the smallest pictures has 4 MiB of it. To find that a megabyte
# is no JSON takes 6 ms.
MAX_SHORT_BYTES = 8 * 2**20


def parse_json(body: bytearray, of_pairs: Callable[[Pairs], object], of_constant: Callable[[str], object]) -> object:
    """Parse a JSON text as `json.loads` does; `body` is empty afterwards.

    `of_pairs` makes an object of its pairs; `of_constant` is called with NaN, Infinity and -Infinity.

    Raises:
        InvalidField: the text has more than MAX_VALUES values, more escapes than MAX_ESCAPES and than every slash in
            base64, or more than MAX_SHORT_BYTES beside its long strings.
        ValueError: the text is no JSON.
        RecursionError: it is nested too deeply.
    """
    mark = secrets.token_hex(8)
    short, lifted = _lift(body, mark)
    body.clear()
    if len(short) > MAX_SHORT_BYTES:
        raise InvalidField(f"The body has more than {MAX_SHORT_BYTES} bytes beside its pictures: shorten its texts.")
    if sum(short.count(sign) for sign in b",[{") > MAX_VALUES:
        raise _too_many("values", MAX_VALUES)

    def put_back(pairs: Pairs) -> object:
        return of_pairs([(str(_put_back(name, lifted, mark)), _put_back(value, lifted, mark)) for name, value in pairs])

    parsed = json.loads(short, object_pairs_hook=put_back, parse_constant=of_constant)
    return _put_back(parsed, lifted, mark)


def _too_many(what: str, most: int) -> InvalidField:
    return InvalidField(f"The body has more than {most} {what}: send fewer turns, and pictures as multipart/form-data.")


def _lift(body: bytearray, mark: str) -> tuple[bytes, list[str]]:
    """Replace every long string by `mark` and its number; return the rest and the strings."""
    if len(body) < _LONG:
        return bytes(body), []
    most_escapes = max(MAX_ESCAPES, len(body) // 32)
    if body.count(b"\\") > most_escapes:
        raise _too_many("escapes", most_escapes)
    pieces: list[bytes] = []
    lifted: list[str] = []
    copied = num_strings = 0
    begin = body.find(b'"')
    while begin >= 0:
        num_strings += 1
        if num_strings > 2 * MAX_VALUES:
            raise _too_many("strings", 2 * MAX_VALUES)
        end = _end_of_string(body, begin + 1)
        if end - begin > _LONG:
            pieces += [bytes(body[copied : begin + 1]), f"{mark}{len(lifted)}".encode()]
            lifted.append(_long_text(body[begin + 1 : end]))
            copied = end
        begin = body.find(b'"', end + 1)
    return b"".join([*pieces, body[copied:]]), lifted


def _end_of_string(body: bytearray, start: int) -> int:
    """Find the quote that ends the string which begins at `start`: one behind an even number of backslashes.

    Raises:
        InvalidField: too many quotes before it are escaped.
        ValueError: there is none.
    """
    end = start - 1
    for _ in range(MAX_ESCAPES):
        end = body.index(b'"', end + 1)
        if _backslashes_before(body, end, start) % 2 == 0:
            return end
    raise _too_many("escapes", MAX_ESCAPES)


_BACKSLASH = ord("\\")


def _backslashes_before(body: bytearray, end: int, start: int) -> int:
    place = end
    while place > start and body[place - 1] == _BACKSLASH:
        place -= 1
    return end - place


def _long_text(string: bytearray) -> str:
    """Read a string that stood between quotes; a line break or a tab inside is let through.

    Raises:
        InvalidField: it is longer than any text, and no base64.
        ValueError: it is no JSON string.
    """
    if len(string) > MAX_TEXT_BYTES and not string.isascii():
        raise InvalidField(f"A text has more than {MAX_TEXT_BYTES} bytes and is no base64: shorten it.")
    if b"\\" not in string:
        return string.decode()
    if string.count(b"\\") > MAX_ESCAPES:
        raise _too_many("escapes", MAX_ESCAPES)
    return str(json.loads(b'"%b"' % bytes(string), strict=False))


def _put_back(value: object, lifted: list[str], mark: str) -> object:
    if isinstance(value, str) and value.startswith(mark):
        return lifted[int(value.removeprefix(mark))]
    return [_put_back(each, lifted, mark) for each in value] if isinstance(value, list) else value
