"""Retrieval against a loop around transformers: pictures and texts embedded a second, texts matched with a picture.

`make bench-retrieval`: both in this process, one after the other in every round, on the same pictures and texts. The
loop is what a script does: processor and model, one picture or text at a time. Prints one line of JSON and writes it to
benchmarks/results/.
"""

import argparse
import asyncio
import datetime
import io
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm
from transformers import (
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    Blip2TextModelWithProjection,
    Blip2VisionModelWithProjection,
)

from benchmarks import RESULTS
from benchmarks.measure.processes import cpu_name
from blip2_serve.config import Settings
from blip2_serve.errors import Blip2Error
from blip2_serve.images import Upload
from blip2_serve.model.locate import locate_retrieval_checkpoint
from blip2_serve.model.models import load_models
from blip2_serve.tasks.verbs import Tasks
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard
from training.texts.language import caption

NUM_PICTURES, NUM_TEXTS, NUM_MATCHED = 64, 256, 32
BARS = {"pictures": 2.0, "texts": 5.0, "matches": 3.0}


@dataclass(frozen=True)
class Work:
    """The work of both: pictures as JPEGs of 640x480, their captions, and more texts of the kind."""

    pictures: list[bytes]
    texts: list[str]

    @classmethod
    def of_round(cls, number: int) -> "Work":
        """New pictures and texts for every round: no cache helps."""
        drawn = [standard(number * NUM_TEXTS + index) for index in range(NUM_TEXTS)]
        pictures = [jpeg_bytes(image, 90) for _, image in drawn[:NUM_PICTURES]]
        return cls(pictures, [f"{caption(scene)}, number {index}" for index, (scene, _) in enumerate(drawn)])


class Loop:
    """transformers' classes, one picture or text at a time."""

    def __init__(self, folder: Path) -> None:
        self.processor = Blip2Processor.from_pretrained(folder)
        self.vision = Blip2VisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
        self.text = Blip2TextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
        self.both = Blip2ForImageTextRetrieval.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def pictures(self, work: Work) -> None:
        """Embed the pictures."""
        for data in work.pictures:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            self.vision(self.processor.image_processor(images=image, return_tensors="pt")["pixel_values"])

    @torch.inference_mode()
    def texts(self, work: Work) -> None:
        """Embed the texts."""
        for text in work.texts:
            self.text(**self.processor.tokenizer(text, return_tensors="pt"))

    @torch.inference_mode()
    def matches(self, work: Work) -> None:
        """Compare one picture with some texts, each by both heads as /match does."""
        image = Image.open(io.BytesIO(work.pictures[0])).convert("RGB")
        for text in work.texts[:NUM_MATCHED]:
            inputs = self.processor(images=image, text=text, return_tensors="pt")
            for matching in (True, False):
                self.both(**inputs, use_image_text_matching_head=matching)


class Ours:
    """The verbs that answer /embed and /match."""

    def __init__(self, model: str) -> None:
        settings = Settings(model="none", retrieval_model=model, dtype="float32", vision_cache_bytes=0)
        loaded = load_models(settings)
        self.tasks = Tasks(loaded.caption, settings, loaded.retrieval)
        self.runner = asyncio.Runner()
        self.runner.run(self.tasks.warm_up())

    def pictures(self, work: Work) -> None:
        """Embed the pictures."""
        seen = self.runner.run(self.tasks.retrieval.embed_images([Upload(data) for data in work.pictures]))
        if any(isinstance(each, Blip2Error) for each in seen):
            raise RuntimeError("a picture was refused")

    def texts(self, work: Work) -> None:
        """Embed the texts."""
        self.runner.run(self.tasks.retrieval.embed_texts(work.texts))

    def matches(self, work: Work) -> None:
        """Compare one picture with some texts."""
        self.runner.run(self.tasks.retrieval.match(Upload(work.pictures[0]), work.texts[:NUM_MATCHED]))


def seconds(run: Callable[[Work], None], work: Work) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    run(work)
    return time.perf_counter() - began


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo-itm")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)  # what suits both best on a small model
    folder = locate_retrieval_checkpoint(Settings(retrieval_model=options.model))
    loop, ours = Loop(folder), Ours(options.model)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in BARS}
    for number, name in tqdm(list(itertools.product(range(options.rounds), BARS))):
        work = Work.of_round(number)
        taken[name].append((seconds(getattr(loop, name), work), seconds(getattr(ours, name), work)))
    ours.tasks.close()
    ours.runner.close()
    counts = {"pictures": NUM_PICTURES, "texts": NUM_TEXTS, "matches": NUM_MATCHED}
    report: dict[str, object] = {"date": str(datetime.date.today()), "cpu": cpu_name(), "model": options.model}
    for name, pairs in taken.items():
        theirs, own = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(loop_s / ours_s for loop_s, ours_s in pairs)
        report[name] = {
            "loop a second": round(counts[name] / theirs, 1),
            "ours a second": round(counts[name] / own, 1),
            "ratio": round(ratio, 2),
            "bar": BARS[name],
            "met": ratio >= BARS[name],
        }
    line = json.dumps(report)
    (RESULTS / f"retrieval-{options.model}-{report['date']}.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
