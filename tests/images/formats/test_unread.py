"""Formats that are not read are named, and the refusal says what to do."""

import re

import pytest

from blip2_serve.errors import UnsupportedImage
from blip2_serve.images import load_image


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\x0a" + bytes(50), "JPEG XL, which is not read here: save it as JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL, which is not read here: save it as JPEG or PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000, which is not read here"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, a drawing and not pixels: draw it first"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg:svg>", "SVG, a drawing"),
        (b'<!DOCTYPE svg PUBLIC "" "" [<!ENTITY a "">]>\n<svg width="1">', "SVG, a drawing"),
        (b"  <!DOCTYPE HTML><html><svg/></html>", "a web page and no picture"),
        (b"%PDF-1.7", "a PDF, which is not read here: send a page of it"),
        (b"plain text about <svg>", "not a picture that can be read: send JPEG, PNG"),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "not a picture that can be read"),
    ],
)
def test_a_refusal_names_the_format(data: bytes, says: str) -> None:
    with pytest.raises(UnsupportedImage, match=re.escape(says)):
        load_image(data, 10**6)
