"""Measure how well a matching checkpoint tells scenes apart: `python -m training.retrieval.evaluate`.

Among each hundred held-out pictures and their captions, the share whose own partner comes first: by the largest cosine,
by the cosine with the mean vector, and as LAVIS ranks, by matching logit and cosine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Blip2ForImageTextRetrieval, Blip2Processor

from training.checkpoint import CHECKPOINTS
from training.pictures.held_out import Picture, standard
from training.pictures.scenes import rng_for
from training.retrieval.batches import Texts, encode, states_of
from training.retrieval.loss import YES, look, match, read
from training.retrieval.model import NAME
from training.retrieval.statements import part, swapped, whole
from training.texts.language import caption

GROUP = 100
WAYS = ("cosine", "mean vector", "matching")


@dataclass(frozen=True)
class Scores:
    """Scores of n pictures (rows) with n captions (columns), by way; `same` is True where a caption is right."""

    by_way: dict[str, Tensor]
    same: Tensor

    def recall(self, way: str, *, of_captions: bool) -> float:
        """Share of pictures whose first caption is right, or of captions whose first picture is."""
        scores, same = (self.by_way[way].T, self.same.T) if of_captions else (self.by_way[way], self.same)
        return same.gather(1, scores.argmax(dim=1, keepdim=True)).float().mean().item()


class Candidate:
    """A checkpoint that is measured."""

    def __init__(self, folder: Path) -> None:
        self.model = Blip2ForImageTextRetrieval.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = Blip2Processor.from_pretrained(folder)

    @torch.inference_mode()
    def score(self, pictures: Sequence[Picture]) -> Scores:
        """Score all pictures with all captions."""
        captions = [caption(scene) for scene, _ in pictures]
        seen = look(self.model, self.states([image for _, image in pictures]))
        texts = encode(captions, self.processor.tokenizer)
        vectors = read(self.model, texts)
        cosines = (seen.vectors @ vectors.T).amax(dim=1)
        pooled = normalize(seen.vectors.mean(dim=1), dim=-1) @ vectors.T
        logits = torch.stack([self.match_all(patches, texts) for patches in tqdm(seen.patches, leave=False)])
        same = torch.tensor([[one == other for other in captions] for one in captions])
        return Scores(dict(zip(WAYS, (cosines, pooled, logits + cosines), strict=True)), same)

    def states(self, images: Sequence[Image.Image]) -> Tensor:
        """Run the tower on pictures, without its last norm."""
        pixels = self.processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        return states_of(self.model, pixels)

    def match_all(self, patches: Tensor, texts: Texts) -> Tensor:
        """Matching logits (n,) of one picture with n texts."""
        return match(self.model, patches.expand(len(texts.ids), -1, -1), texts)[:, YES]

    @torch.inference_mode()
    def tells_apart(self, pictures: Sequence[Picture]) -> float:
        """Share of true statements that match better than the same with one attribute swapped."""
        right = []
        for index, (scene, image) in enumerate(pictures):
            rng = rng_for("retrieval exam", index)
            patches = look(self.model, self.states([image])).patches
            for true in (whole(scene), part(scene, rng)):
                pair = encode([true.text, swapped(true, scene, rng).text], self.processor.tokenizer)
                logits = self.match_all(patches, pair)
                right.append(bool(logits[0] > logits[1]))
        return sum(right) / len(right)


def _groups(count: int) -> Iterator[list[Picture]]:
    for start in range(0, count, GROUP):
        yield [standard(index) for index in range(start, start + GROUP)]


def main() -> None:
    """Print the held-out table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=CHECKPOINTS / NAME, help="a folder")
    parser.add_argument("--pictures", type=int, default=500, help="in groups of a hundred")
    options = parser.parse_args()
    candidate, groups = Candidate(options.model), list(_groups(options.pictures))
    scored = [candidate.score(group) for group in tqdm(groups)]
    print("| ranked by | picture to caption R@1 | caption to picture R@1 |\n|---|---|---|")
    for way in WAYS:
        means = [sum(each.recall(way, of_captions=side) for each in scored) / len(scored) for side in (False, True)]
        print(f"| {way} | {means[0]:.1%} | {means[1]:.1%} |")
    apart = sum(candidate.tells_apart(group) for group in groups) / len(groups)
    print(f"\nTrue statements that match better than with one attribute swapped: {apart:.1%}")


if __name__ == "__main__":
    main()
