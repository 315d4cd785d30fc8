"""The demo server that `make test-clients` has started, and pictures to send it."""

import base64
import os
import struct
import zlib

import pytest

from support.demo import PICTURE


@pytest.fixture(scope="session")
def url() -> str:
    """Base URL of OpenAI's protocol."""
    return f"{os.environ['CLIENTS_URL']}/v1"


@pytest.fixture(scope="session")
def picture() -> str:
    """demo.jpeg as a data: URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"


@pytest.fixture(scope="session")
def grey() -> bytes:
    """A grey PNG, without any shape."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, rows = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0), (b"\0" + b"\x80" * 32) * 32
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
