"""How often /choose puts the right one of "yes" and "no" first.

`make measure-choosing`: "is there a circle?" and the like about held-out pictures, as often yes as no, by the demo
checkpoint. Prints one line of JSON and writes it to benchmarks/results/.
"""

import argparse
import asyncio
import datetime
import json

from tqdm import tqdm

from benchmarks import RESULTS
from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.load import load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.tasks.scored.choices import Choice
from blip2_serve.tasks.verbs import Tasks
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard
from training.pictures.scenes import rng_for
from training.texts.language import Turn, questions

ANSWERS = ("yes", "no")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    report: dict[str, object] = {"date": str(datetime.date.today()), "model": options.model}
    report["questions"] = options.questions
    for dtype in ("float32", "bfloat16"):
        settings = Settings(model=options.model, dtype=dtype)
        tasks = Tasks(load_model(settings, locate_checkpoint(settings)), settings)
        report[f"right, {dtype}"] = asyncio.run(count_right(tasks, range(options.questions)))
        tasks.close()
    line = json.dumps(report)
    (RESULTS / f"choosing-{options.model}-{report['date']}.json").write_text(line + "\n")
    print(line)


def exam(index: int) -> tuple[bytes, Turn]:
    """A held-out picture and a question about what is in it, "yes" and "no" equally often."""
    scene, image = standard(index)
    rng = rng_for("choosing", index)
    answer = rng.choice(ANSWERS)
    return jpeg_bytes(image, 90), rng.choice([turn for turn in questions(scene)["presence"] if turn.answer == answer])


async def count_right(tasks: Tasks, indices: range) -> int:
    """How many of the exams have the right answer first."""
    right = 0
    for index in tqdm(indices):
        picture, turn = exam(index)
        best: Choice = (await tasks.choose(Upload(picture), turn.question, ANSWERS)).choices[0]
        right += best.text == turn.answer
    return right


if __name__ == "__main__":
    main()
