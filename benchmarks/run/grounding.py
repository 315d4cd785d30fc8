"""How far captions of the demo checkpoint can be trusted: swapped words found, and confidence against what is right.

`make measure-grounding`: captions of held-out pictures with one attribute swapped (is the swapped word the one that the
picture supports least?), then captions of other held-out pictures, a third of them noisy and a third blurred (expected
calibration error, and how often captions are right at each share that is told). Prints one line of JSON and writes it
to benchmarks/results/, from which `make bench-plot` draws.
"""

import argparse
import asyncio
import datetime
import json

from tqdm import tqdm

from benchmarks import RESULTS
from benchmarks.measure.processes import cpu_name
from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.calibration import expected_error
from blip2_serve.model.models import load_models
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard
from training.pictures.judged import judged
from training.pictures.scenes import Scene, rng_for
from training.retrieval.statements import Statement, swapped, whole
from training.texts.language import caption

FIRST_SWAPPED, FIRST_JUDGED = 50_000, 60_000
AT_ONCE = 16
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--swapped", type=int, default=500)
    parser.add_argument("--judged", type=int, default=3_000)
    options = parser.parse_args()
    settings = Settings(model=options.model, retrieval_model="demo-itm", deadline_s=3_600)
    loaded = load_models(settings)
    tasks = Tasks(loaded.caption, settings, loaded.retrieval)
    report: dict[str, object] = {"date": str(datetime.date.today()), "cpu": cpu_name(), "model": options.model}
    report["swapped"] = asyncio.run(measure_swapped(tasks, options.swapped))
    report["confidence"] = asyncio.run(measure_confidence(tasks, options.judged))
    tasks.close()
    line = json.dumps(report)
    (RESULTS / f"grounding-{options.model}-{report['date']}.json").write_text(line + "\n")
    print(line)


async def measure_swapped(tasks: Tasks, count: int) -> dict[str, float]:
    """How often the swapped word has the least support, and how many words of right and wrong captions are marked."""
    found = marked_right = marked_wrong = 0
    for index in tqdm(range(FIRST_SWAPPED, FIRST_SWAPPED + count)):
        scene, image = standard(index)
        true = whole(scene)
        false = swapped(true, scene, rng_for("grounding", index))
        texts = [true.text, false.text]
        right, wrong = (await tasks.retrieval.match(Upload(jpeg_bytes(image, 90)), texts, tasks.explainer)).matches
        supports = [word.support for word in wrong.words or []]
        found += supports.index(min(supports)) in swapped_places(true, false)
        marked_right += bool(right.unsupported)
        marked_wrong += bool(wrong.unsupported)
    return {
        "captions": count,
        "swapped word has the least support": found / count,
        "right captions with a marked word": marked_right / count,
        "wrong captions with a marked word": marked_wrong / count,
    }


def swapped_places(true: Statement, false: Statement) -> set[int]:
    """The places of the words of `false` that are not said in `true`; of a relation, all of its words."""
    said, words = true.text.split(), false.text.split()
    if true.relation != false.relation and false.relation is not None:
        first = len(false.text[: false.text.index(false.relation)].split())
        return set(range(first, first + len(false.relation.split())))
    return {place for place, (one, other) in enumerate(zip(said, words, strict=True)) if one != other}


async def measure_confidence(tasks: Tasks, count: int) -> dict[str, object]:
    """Compare confidence with what is right, five beams as served."""
    bar = tqdm(total=count)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> tuple[float, bool]:
        scene, image = judged(index)
        async with places:
            told = await tasks.caption(Upload(jpeg_bytes(image, 90)), None, DecodingOptions())
        bar.update()
        assert told.confidence is not None, "the checkpoint is not calibrated"
        return told.confidence, is_right(told.text, scene)

    pairs = []
    for start in range(0, count, 10 * AT_ONCE):  # drawing is not awaited: a few pictures at a time
        batch = range(FIRST_JUDGED + start, FIRST_JUDGED + min(start + 10 * AT_ONCE, count))
        pairs += await asyncio.gather(*map(one, batch))
    bar.close()
    confidences, right = zip(*pairs, strict=True)
    return {
        "captions": count,
        "right": sum(right) / count,
        "expected calibration error": expected_error(confidences, right),
        "wrong at coverage": risks(confidences, right),
    }


def is_right(text: str, scene: Scene) -> bool:
    """True for the one right caption."""
    return text == caption(scene)


def risks(confidences: tuple[float, ...], right: tuple[bool, ...]) -> dict[str, float]:
    """Share of wrong captions among the most confident ones, by the share of captions that is told."""
    ranked = [is_right for _, is_right in sorted(zip(confidences, right, strict=True), key=lambda pair: -pair[0])]
    kept = {coverage: ranked[: max(1, round(coverage * len(ranked)))] for coverage in COVERAGES}
    return {str(coverage): 1 - sum(each) / len(each) for coverage, each in kept.items()}


if __name__ == "__main__":
    main()
