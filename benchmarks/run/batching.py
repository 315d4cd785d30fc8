"""How many captions change when a request shares its batch with others, in bfloat16 and in float32.

`make measure-batching`: captions of 1,000 held-out pictures by the demo checkpoint, each alone and all together. In a
batch sums run in another order; in half precision that can tip a near tie. Prints one line of JSON and writes it to
benchmarks/results/.
"""

import argparse
import asyncio
import datetime
import json
from collections.abc import Sequence

from tqdm import tqdm

from benchmarks import RESULTS
from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.load import load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

NO_CACHE = {"image_cache_bytes": 0}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    pictures = [jpeg_bytes(standard(index)[1], 90) for index in range(options.pictures)]
    report: dict[str, object] = {"date": str(datetime.date.today()), "model": options.model, "captions": len(pictures)}
    for dtype in ("float32", "bfloat16"):
        for num_beams in (1, 5):
            decoding = DecodingOptions(num_beams=num_beams)
            report[f"{dtype}, {num_beams} beams"] = asyncio.run(
                count_changes(Settings(model=options.model, dtype=dtype), pictures, decoding)
            )
    line = json.dumps(report)
    (RESULTS / f"batching-{options.model}-{report['date']}.json").write_text(line + "\n")
    print(line)


async def count_changes(settings: Settings, pictures: Sequence[bytes], decoding: DecodingOptions) -> int:
    """Captions that differ between a request alone and the same request among all the others."""
    alone, together = [], []
    for texts, at_once in ((alone, 1), (together, 64)):
        # No image cache: the second time the pictures are to be encoded in batches, too.
        tasks = Tasks(load_model(settings, locate_checkpoint(settings)), settings.model_copy(update=NO_CACHE))
        gate = asyncio.Semaphore(at_once)

        async def caption(picture: bytes, tasks: Tasks = tasks, gate: asyncio.Semaphore = gate) -> str:
            async with gate:
                return (await tasks.caption(Upload(picture), None, decoding)).text

        calls = [asyncio.ensure_future(caption(picture)) for picture in pictures]
        texts.extend([await call for call in tqdm(calls, desc=f"{settings.dtype}, {at_once} at once")])
        tasks.close()
    return sum(one != other for one, other in zip(alone, together, strict=True))


if __name__ == "__main__":
    main()
