"""A retrieval request on its way through the engine. No torch."""

import math
from dataclasses import dataclass
from typing import Any

from blip2_serve.engine.messages import ImageInput, KnownImage, RetrievalRequest, Retrieved
from blip2_serve.engine.sequence import SequenceState, Stage


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture as its reader has read it, in tensors.

    `read` are image tokens (query tokens, text width) or unit vectors (query tokens, vector width), as the picture's
    reader makes them; `states` (1 + patches, vision width) are the tower's, None where nobody will want them again.
    """

    read: Any
    states: Any = None


class RetrievalState:
    """One request: its stage, and from QUEUED on what was made of its picture, if it has one."""

    def __init__(self, request: RetrievalRequest) -> None:
        self.request = request
        self.deadline = math.inf if request.deadline is None else request.deadline
        self.stage = Stage.ARRIVED
        self.sight: Sight | None = None

    @property
    def image(self) -> ImageInput | KnownImage:
        """The picture of a request that has one."""
        assert self.request.image is not None
        return self.request.image

    @property
    def num_texts(self) -> int:
        return len(self.request.texts)

    def end(self) -> None:
        """Enter ENDED; what was made of its picture stays, as another thread may be reading it."""
        self.stage = Stage.ENDED

    def answer(self, text_vectors: bytes = b"", itm_logits: tuple[tuple[float, float], ...] = ()) -> Retrieved:
        """The answer, with the picture's vectors."""
        vectors = b"" if self.sight is None else self.sight.read.float().cpu().numpy().tobytes()
        return Retrieved(self.request.request_id, vectors, text_vectors, itm_logits)


AnySequence = SequenceState | RetrievalState
