"""The settings that change which pixels are read of a file."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # decoders start in half the time without it
    from blip2_serve.config import Settings


@dataclass(frozen=True, slots=True)
class Reading:
    """How pictures are read.

    Attributes:
        accepts_truncated: of a JPEG or PNG that is cut short, what is there is taken.
        converts_color: colours are converted to sRGB by the picture's own profile.
    """

    accepts_truncated: bool = False
    converts_color: bool = False

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """The reading that the settings ask for."""
        return cls(settings.truncated_images == "accept", settings.color == "srgb")

    @classmethod
    def unpack(cls, number: int) -> Self:
        """The reading that was packed as `number`."""
        return cls(bool(number & 1), bool(number & 2))

    def pack(self) -> int:
        """A number, below 256, for this reading; 0 by default."""
        return self.accepts_truncated + 2 * self.converts_color

    def mark(self, fingerprint: bytes) -> bytes:
        """Make a model's fingerprint, 32 bytes, that of the model on pictures as they are read; by default the same."""
        if self == REFERENCE:
            return fingerprint
        return hashlib.sha256(b"reading" + bytes((self.pack(),)) + fingerprint).digest()


REFERENCE = Reading()
"""The pixels that transformers' processor sees, of whole files."""
