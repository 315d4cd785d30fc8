"""Uploaded bytes are handed out once and forgotten."""

from blip2_serve.images import Upload


def test_the_bytes_are_given_away_and_not_kept() -> None:
    upload = Upload(b"picture")
    assert upload.release() == b"picture"
    assert upload.release() == b""
