"""Peer (a): the tutorials' design, BentoML's own BLIP example among them: one blocking `generate` per request."""

import bentoml
from PIL import Image

from benchmarks.peers.padded import Job, PaddedGenerate


@bentoml.service(traffic={"timeout": 3600})
class Tutorial:
    """A model, and an endpoint that runs it."""

    def __init__(self) -> None:
        self._generate = PaddedGenerate()

    @bentoml.api
    async def generate(self, img: Image.Image, txt: str = "", num_tokens: int = 20, num_beams: int = 1) -> str:
        """The text that continues `txt`."""
        return self._generate([Job(img.convert("RGB"), txt, num_tokens, num_beams)])[0]
