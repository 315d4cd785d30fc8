"""Savings and costs of fewer bits: `python -m benchmarks.run.quantization --model demo`.

Each variant runs in a process of its own: memory of the weights and of the process, captions a second of held-out
pictures alone and 64 at once, and how many captions are others than in float32. For a checkpoint with random weights
the last says nothing. Prints one line of JSON a variant and appends them to a file of the day in
benchmarks/results/.
"""

import argparse
import asyncio
import datetime
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from benchmarks import RESULTS
from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.device import use_available_threads
from blip2_serve.model.load import load_model
from blip2_serve.model.locate import locate_checkpoint
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.verbs import Tasks
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

VARIANTS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},
    "int4": {"quantize": "int4"},
}
AT_ONCE = 64


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="demo or a folder")
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--alone", type=int, default=50, help="pictures that are captioned one after the other")
    parser.add_argument("--new-tokens", type=int, help="exactly so many; else as many as the caption has, up to 30")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    decoding = DecodingOptions(num_beams=options.beams)
    if options.new_tokens:
        decoding = DecodingOptions(
            num_beams=options.beams, max_new_tokens=options.new_tokens, min_new_tokens=options.new_tokens
        )
    pictures = [jpeg_bytes(standard(index)[1], 90) for index in tqdm(range(options.pictures), "draw", leave=False)]
    lines, texts = [], {}
    for name in options.variants:
        settings = Settings(model=options.model, **VARIANTS[name])
        # A process each: memory that one variant took is not the next one's.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures, texts[name] = pool.submit(measure, settings, pictures, options.alone, decoding).result()
        changed = sum(a != b for a, b in zip(texts[options.variants[0]], texts[name], strict=True))
        about = {"date": str(datetime.date.today()), "model": Path(options.model).name, "beams": options.beams}
        lines.append(json.dumps({**about, "variant": name, **figures, f"not as {options.variants[0]}": changed}))
        print(lines[-1], flush=True)
    with (RESULTS / f"quantization-{datetime.date.today()}.jsonl").open("a") as file:
        file.write("\n".join(lines) + "\n")


def measure(
    settings: Settings, pictures: Sequence[bytes], num_alone: int, decoding: DecodingOptions
) -> tuple[dict[str, float], list[str]]:
    """The figures of one variant, and its captions."""
    before = _resident_bytes()
    loaded = load_model(settings, locate_checkpoint(settings))
    use_available_threads(settings, loaded.model.num_parameters())
    figures = {"weights, MB": _megabytes(sum(stored_bytes(loaded.model)))}
    figures["language model, MB"] = _megabytes(sum(stored_bytes(loaded.model.language_model)))
    tasks = Tasks(loaded, settings)
    try:
        asyncio.run(tasks.warm_up())
        seconds, _ = asyncio.run(caption(tasks, pictures[:num_alone], decoding, at_once=1))
        figures["captions/s alone"] = round(num_alone / seconds, 2)
        # Not those from before: their image tokens are in the cache.
        seconds, _ = asyncio.run(caption(tasks, pictures[num_alone:], decoding, AT_ONCE))
        figures[f"captions/s, {AT_ONCE} at once"] = round((len(pictures) - num_alone) / seconds, 2)
        seconds, texts = asyncio.run(caption(tasks, pictures, decoding, AT_ONCE))
        figures["captions/s, pictures seen before"] = round(len(pictures) / seconds, 2)
        figures["process, MB"] = _megabytes(_resident_bytes() - before)
    finally:
        tasks.close()
    return figures, texts


async def caption(
    tasks: Tasks, pictures: Sequence[bytes], decoding: DecodingOptions, at_once: int
) -> tuple[float, list[str]]:
    """Seconds and texts of the captions of all pictures."""
    gate = asyncio.Semaphore(at_once)

    async def one(picture: bytes) -> str:
        async with gate:
            return (await tasks.caption(Upload(picture), None, decoding)).text

    begin = time.perf_counter()
    texts = await asyncio.gather(*map(one, pictures))
    return time.perf_counter() - begin, texts


def stored_bytes(module: Any) -> Iterator[int]:
    """Bytes of each weight as it is kept, with the scales of quantised ones."""
    for weight in module.parameters():
        yield weight.nbytes
        if (scales := getattr(weight, "SCB", None)) is not None:
            yield scales.nbytes
        if (state := getattr(weight, "quant_state", None)) is not None:
            yield state.absmax.nbytes


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _megabytes(num_bytes: float) -> float:
    return round(num_bytes / 1e6, 1)


if __name__ == "__main__":
    main()
