"""Look at pictures: the tower sees those that are new, and each model reads what it needs of the states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from blip2_serve.engine.messages import ImageInput, KnownImage, ReaderName
from blip2_serve.engine.retrieval.sequence import Sight
from blip2_serve.errors import Part, UnknownImage

SEND_IT_AGAIN = "The picture with this id is not kept any more, or was never sent here: send the picture again."


class Reader(Protocol):
    """A model's way from pixels to what it needs of a picture."""

    def see(self, images: Sequence[bytes], /) -> torch.Tensor:
        """Pixels of n images to the tower's states, (n, 1 + patches, vision width)."""
        ...

    def read(self, states: torch.Tensor, instructions: Sequence[Sequence[int]]) -> torch.Tensor:
        """States (n, 1 + patches, vision width) and instruction ids to (n, query tokens, width)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A picture to look at, and its states (1 + patches, vision width) if they are known."""

    image: ImageInput | KnownImage
    states: torch.Tensor | None = None

    @property
    def states_key(self) -> bytes:
        return self.image.states_key or self.image.key


def look(
    readers: Mapping[ReaderName, Reader], looks: Sequence[Look], *, keeps_states: bool
) -> dict[Look, Sight | Exception]:
    """Look at pictures, each seen once; one of which neither pixels nor states are at hand is an UnknownImage.

    Results are cloned, so that a kept one does not keep the rest of its micro-batch alive. States are given back to
    retrieval, and to all where `keeps_states`.
    """
    sights: dict[Look, Sight | Exception] = {}
    states = {each.states_key: each.states for each in looks if each.states is not None}
    for name, reader in readers.items():
        own = [each for each in looks if each.image.reader == name]
        states |= _see(reader, own, states)
        known = [each for each in own if each.states_key in states]
        sights |= dict.fromkeys(own, UnknownImage(SEND_IT_AGAIN, about=Part.IMAGE_ID))
        if known:
            seen = torch.stack([states[each.states_key] for each in known])
            read = reader.read(seen, [each.image.instruction_ids for each in known])
            keeps = keeps_states or name == "retrieval"
            for place, each in enumerate(known):
                sights[each] = Sight(read[place].clone(), states[each.states_key] if keeps else None)
    return sights


def _see(reader: Reader, looks: Sequence[Look], known: Mapping[bytes, torch.Tensor]) -> dict[bytes, torch.Tensor]:
    """States of pictures that are new and come with their pixels."""
    new = {each.states_key: each.image for each in looks if each.states_key not in known}
    pixels = {key: image.pixels for key, image in new.items() if isinstance(image, ImageInput)}
    if not pixels:
        return {}
    return {key: seen.clone() for key, seen in zip(pixels, reader.see(list(pixels.values())), strict=True)}
