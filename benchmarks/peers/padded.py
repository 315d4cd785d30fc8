"""transformers' `generate` on a batch of pictures and prompts: what the peers have in common."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor


@dataclass(frozen=True)
class Job:
    """A picture, the whole prompt ("" for a caption), and exactly how many tokens to write."""

    image: Image.Image
    prompt: str
    num_tokens: int
    num_beams: int = 1


class PaddedGenerate:
    """A BLIP-2, loaded from PEER_MODEL in PEER_DTYPE; torch takes PEER_THREADS threads."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["PEER_THREADS"]))
        folder, self._dtype = os.environ["PEER_MODEL"], getattr(torch, os.environ["PEER_DTYPE"])
        self._processor = Blip2Processor.from_pretrained(folder)
        self._processor.tokenizer.padding_side = "left"
        self._model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=self._dtype).eval()

    @torch.inference_mode()
    def __call__(self, jobs: Sequence[Job]) -> list[str]:
        """Each job's text. The batch goes on until its longest job is done; the others are cut."""
        texts = [job.prompt for job in jobs]
        inputs = self._processor([job.image for job in jobs], texts, padding=True, return_tensors="pt")
        longest = max(job.num_tokens for job in jobs)
        ids = self._model.generate(
            **inputs.to(self._dtype),
            max_new_tokens=longest,
            min_new_tokens=longest,
            num_beams=jobs[0].num_beams,
            do_sample=False,
        )
        new = ids[:, -longest:] if ids.shape[1] >= longest else ids
        kept = [row[: job.num_tokens] for row, job in zip(new, jobs, strict=True)]
        texts = self._processor.batch_decode(kept, skip_special_tokens=True)
        return [text.strip() for text in texts]
