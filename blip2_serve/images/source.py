"""The three ways in which a request gives its picture."""

from dataclasses import dataclass

from blip2_serve.images.upload import Upload


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A picture that somebody else has; nothing about `url` has been checked."""

    url: str


@dataclass(frozen=True, slots=True)
class ImageId:
    """A picture that was sent before: `sha256` is the digest of its bytes, 32 bytes."""

    sha256: bytes


ImageSource = Upload | ImageUrl | ImageId
