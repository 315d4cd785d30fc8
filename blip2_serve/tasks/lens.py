"""How pictures are made ready for one model: at which size, and under which keys."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blip2_serve.engine.messages import ImageInput, KnownImage, ReaderName
from blip2_serve.images.reading import REFERENCE, Reading
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.retrieval.load import LoadedRetrieval

CAPTION: tuple[ReaderName, ...] = ("caption",)
MATCHING: tuple[ReaderName, ...] = ("retrieval",)
Look = tuple[int, int]
"""Side of the model's square in pixels, and Pillow's number for the filter to resize with."""


@dataclass(frozen=True, slots=True)
class Lens:
    """One model's view of pictures.

    Attributes:
        fingerprint: of the model that reads them, and how; `tower` of the one whose tower sees them, perhaps shared.
        reads_instruction: what is read of a picture depends on the prompt.
    """

    reader: ReaderName
    look: Look
    fingerprint: bytes
    tower: bytes
    reads_instruction: bool = False

    def image(self, sha256: bytes, pixels: bytes | None, instruction_ids: Sequence[int]) -> ImageInput | KnownImage:
        """Name a picture by all that its reading depends on: its bytes, the model, the Q-Former's share of a prompt."""
        read = tuple(instruction_ids) if self.reads_instruction else ()
        key = hashlib.sha256(sha256 + self.fingerprint + np.array(read, dtype=np.int64).tobytes()).digest()
        states_key = hashlib.sha256(b"states" + sha256 + self.tower).digest()
        if pixels is None:
            return KnownImage(key, read, states_key, self.reader)
        return ImageInput(key, pixels, read, states_key, self.reader)


def lenses_of(
    loaded: LoadedModel | None, retrieval: LoadedRetrieval | None, reading: Reading = REFERENCE
) -> dict[ReaderName, Lens]:
    """The lenses of the models that are served, on pictures that are read in one way."""
    lenses: dict[ReaderName, Lens] = {}
    if loaded is not None:
        look = (loaded.image_size, int(loaded.image_processor.resample))
        reads = loaded.family.reads_instruction
        fingerprint = reading.mark(loaded.fingerprint)
        lenses["caption"] = Lens("caption", look, fingerprint, fingerprint, reads)
    if retrieval is not None:
        look = (retrieval.image_size, int(retrieval.image_processor.resample))
        tower = loaded.fingerprint if loaded is not None and retrieval.shares_tower else retrieval.fingerprint
        lenses["retrieval"] = Lens("retrieval", look, reading.mark(retrieval.fingerprint), reading.mark(tower))
    return lenses
