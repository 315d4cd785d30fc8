"""Peer (b): BentoML's adaptive batching around a padded `generate`; PEER_BATCH is its largest batch.

A batchable endpoint takes one list, so a job is one object and its picture travels in base64. `max_latency_ms` is
when BentoML drops requests; it is so long that none is.
"""

import base64
import io
import os

import bentoml
from PIL import Image
from pydantic import BaseModel

from benchmarks.peers.padded import Job, PaddedGenerate


class Item(BaseModel):
    """A job as it travels."""

    image: str
    prompt: str
    num_tokens: int

    def job(self) -> Job:
        """The job, its picture decoded."""
        picture = Image.open(io.BytesIO(base64.b64decode(self.image))).convert("RGB")
        return Job(picture, self.prompt, self.num_tokens)


@bentoml.service(traffic={"timeout": 3600})
class Adaptive:
    """A model, and an endpoint whose calls BentoML joins."""

    def __init__(self) -> None:
        self._generate = PaddedGenerate()

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["PEER_BATCH"]), max_latency_ms=600_000)
    def generate(self, items: list[Item]) -> list[str]:
        """The texts that continue the prompts."""
        return self._generate([item.job() for item in items])
