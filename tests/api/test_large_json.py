"""JSON with long strings parses as `json.loads` parses it, in little memory, and is bounded."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip2_serve.api import large_json
from blip2_serve.api.large_json import parse_json
from blip2_serve.errors import InvalidField

LONG = "A" * 70_000


def parse(body: bytes) -> object:
    return parse_json(bytearray(body), dict, float)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.text('ab\\"/\n\t\0é\U0001f600', min_size=40, max_size=90),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=values, ascii_only=st.booleans())
def test_every_value_comes_out_as_it_went_in(value: object, ascii_only: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "_LONG", 32)  # so that hypothesis' short texts count as long
        assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(
    body=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60).map(str.encode)
    | st.text('"\\{}[],:a1 ', max_size=80).map(str.encode)
)
def test_what_json_refuses_is_refused(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "_LONG", 8)
        try:
            expected = json.loads(body)
        except ValueError:
            with pytest.raises(ValueError):  # noqa: PT011  # the words are json's own
                parse(body)
        else:
            assert repr(parse(body)) == repr(expected), "by its words: NaN is equal to nothing"


def test_base64_in_lines_is_let_through() -> None:
    text = "\n".join(["A" * 76] * 1000)
    assert parse(f'{{"img": "{text}"}}'.encode()) == {"img": text}


@pytest.mark.parametrize("text", [LONG, f"{LONG}\\/{LONG}", f'{LONG}\\"', f"{LONG}\\\\", f"{LONG}\\u00e9"])
def test_a_long_string_is_read_with_its_escapes(text: str) -> None:
    body = f'{{"a": ["{text}", {{"{text}": 1}}], "b": "{text}"}}'.encode()
    assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * 30_000 + b"1]",
        b"[" + b"[],".join([b""] * 30_000) + b"1]",
        b"{" + b",".join(b'"%d":1' % number for number in range(30_000)) + b"}",
        b'["' + b'\\"' * 1_100_000 + b'"]',
        b'["' + b"\\n" * 1_100_000 + b'"]',
        b'["' + b"\\u0041" * 1_100_000 + b'"]',
        json.dumps(["a" * 2**20 + "\U0001f600"], ensure_ascii=False).encode(),
        json.dumps(["a" * 60_000] * 150).encode(),
        b"x" * 9_000_000,
    ],
    ids=["numbers", "lists", "keys", "escaped quotes", "escapes", "escaped characters", "a long text", "texts", "x"],
)
def test_what_would_take_long_or_much_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidField, match="more than"):
        parse(body)


@pytest.mark.parametrize("strange", ["", "\U0001f600", "\\u0041" * 1000], ids=["ascii", "an emoji", "escapes"])
def test_a_picture_takes_little_more_than_its_bytes(strange: str) -> None:
    body = bytearray(json.dumps({"img": "A" * 20_000_000, "txt": "x"}).encode())
    body[-3:-3] = strange.encode()
    tracemalloc.start()
    parse_json(body, dict, float)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * 20_000_000


def test_escapes_are_counted_over_the_whole_body() -> None:
    escaped = '"' + '\\"' * 400_000 + '"'
    with pytest.raises(InvalidField, match="escapes"):
        parse(f"[{escaped}, {escaped}, {escaped}]".encode())
    assert len(str(parse(f'["{"ab/" * 300_000}"]'.replace("/", "\\/").encode()))) > 900_000
