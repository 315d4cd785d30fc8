"""Measure how much of its language a checkpoint knows: `python -m training.evaluate --model demo`.

Pictures go through the same steps as when served: the processor and `generate`, five beams unless `--greedy`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from training.checkpoint import CHECKPOINTS
from training.pictures.held_out import VARIANTS, Picture, standard
from training.pictures.scenes import rng_for
from training.texts.language import caption, chat_prompt, sample_follow_up, sample_question, vqa_prompt

BATCH_SIZE = 50


@dataclass(frozen=True)
class Exam:
    """A picture, a prompt about it, and the only right answer."""

    image: Image.Image
    prompt: str
    answer: str


class Candidate:
    """A checkpoint that sits exams."""

    def __init__(self, folder: Path, dtype: torch.dtype, num_beams: int = 5) -> None:
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        self.processor = Blip2Processor.from_pretrained(folder)
        # On the left, so that every prompt of a batch ends where the answer begins.
        self.processor.tokenizer.padding_side = "left"
        self.num_beams = num_beams
        self.is_t5 = not self.model.config.use_decoder_only_language_model

    def captions(self, exams: list[Exam]) -> float:
        """Return the share of captions, or of their endings, that are exactly right."""
        return self._score(exams, max_new_tokens=30, length_penalty=1.0)

    def answers(self, exams: list[Exam]) -> float:
        """Return the share of plain questions that are answered right."""
        return self._score(exams, max_new_tokens=30, length_penalty=-1.0 if self.is_t5 else 0.0)

    def follow_ups(self, exams: list[Exam]) -> float:
        """Return the share of second turns of conversations that are answered right."""
        return self._score(exams, max_new_tokens=30, length_penalty=1.0)

    def _score(self, exams: list[Exam], **options: Any) -> float:
        said = (text for batch in _batches(exams) for text in self.say(batch, **options))
        return sum(text == exam.answer for text, exam in zip(said, exams, strict=True)) / len(exams)

    @torch.inference_mode()
    def say(self, exams: list[Exam], **options: Any) -> list[str]:
        """Return the checkpoint's answer to each exam of a batch."""
        prompts = [exam.prompt for exam in exams]
        inputs = self.processor(
            images=[exam.image for exam in exams], text=prompts, padding=True, return_tensors="pt"
        ).to(self.model.dtype)
        ids = self.model.generate(**inputs, num_beams=self.num_beams, **options)
        new_ids = ids if self.is_t5 else ids[:, inputs.input_ids.shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(new_ids, skip_special_tokens=True)]


def score(candidate: Candidate, pictures: list[Picture]) -> dict[str, float]:
    """Return the shares of right captions, captions continued from some given words, answers and follow-ups."""
    captions, continuations, answers, follow_ups = [], [], [], []
    for index, (scene, image) in enumerate(pictures):
        rng = rng_for("exam", index)
        question, conversation = sample_question(scene, rng), sample_follow_up(scene, rng)
        words = caption(scene).split()
        given = rng.randrange(1, len(words))
        captions.append(Exam(image, "", caption(scene)))
        continuations.append(Exam(image, " ".join(words[:given]), " ".join(words[given:])))
        answers.append(Exam(image, vqa_prompt(question, candidate.is_t5), question.answer))
        follow_ups.append(Exam(image, chat_prompt(conversation), conversation[-1].answer))
    return {
        "captions": candidate.captions(captions),
        "continuations": candidate.captions(continuations),
        "answers": candidate.answers(answers),
        "follow-ups": candidate.follow_ups(follow_ups),
    }


def _batches(exams: list[Exam]) -> Iterator[list[Exam]]:
    for start in tqdm(range(0, len(exams), BATCH_SIZE), leave=False):
        yield exams[start : start + BATCH_SIZE]


def _report(name: str, candidate: Candidate, picture: Callable[[int], Picture], count: int) -> None:
    scores = score(candidate, [picture(index) for index in range(count)])
    print(f"| {name} | {count} | " + " | ".join(f"{share:.1%}" for share in scores.values()) + " |", flush=True)


def main() -> None:
    """Print the held-out table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", help="a folder, or demo or demo-t5")
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--variant-pictures", type=int, default=200, help="of each other kind; 0 for none")
    parser.add_argument("--greedy", action="store_true")
    options = parser.parse_args()
    folder = Path(options.model) if Path(options.model).is_dir() else CHECKPOINTS / options.model
    print("| pictures | number | captions | continuations | answers | follow-ups |\n|---|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        candidate = Candidate(folder, dtype, num_beams=1 if options.greedy else 5)
        _report(f"640x480 JPEG, {str(dtype).removeprefix('torch.')}", candidate, standard, options.pictures)
    for name, picture in VARIANTS.items() if options.variant_pictures else ():
        _report(f"{name}, bfloat16", candidate, picture, options.variant_pictures)


if __name__ == "__main__":
    main()
