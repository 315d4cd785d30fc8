"""How fast the engine is on this device, beside transformers and beside what the device could do at best.

`python -m benchmarks.run.gpu`: random weights with the shapes of blip2-opt-2.7b and blip2-flan-t5-xl, made on the
device; no network, no HTTP. Captions of exactly 20 new tokens, greedy and with five beams, in batches of 1 to 256, by
our engine in process and by transformers' `generate`; the seconds of each stage; the floor (measure/floor.py). Takes
less than eight minutes on a large GPU. The last line is JSON; `--output` also writes it to benchmarks/results/.
"""

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import transformers
from tqdm import tqdm

from benchmarks import RESULTS
from benchmarks.measure.floor import floor_seconds, synchronize
from benchmarks.measure.in_process import (
    DTYPES,
    Subject,
    make_subject,
    preprocess_ms,
    random_pixels,
    run_engine,
    run_generate,
    stages,
)
from blip2_serve.options import DecodingOptions


def main() -> None:
    """Measure and report."""
    options = parse_arguments()
    device = torch.device(options.device)
    report: dict[str, Any] = {**about(device), "new_tokens": options.new_tokens, "rows": []}
    num_rows = len(options.models) * len(options.batches) * len(options.beams)
    with tqdm(total=num_rows, unit="row") as progress:
        for name in options.models:
            progress.set_description(f"{name}: weights")
            subject = make_subject(name, device, options.tiny)
            report[f"machine, {name}"] = asdict(subject.machine)
            for beams in options.beams:
                for batch in options.batches:
                    progress.set_description(f"{name}, {beams} beams, batch {batch}")
                    row = measure(subject, batch, beams, options.new_tokens, options.times)
                    report["rows"].append(row)
                    progress.write(in_words(row))
                    progress.update()
            del subject
    line = json.dumps(report)
    if options.output:
        (RESULTS / f"gpu-{report['date']}.json").write_text(line + "\n")
    print(line)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--new-tokens", type=int, default=20)
    parser.add_argument("--times", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--tiny", action="store_true", help="tiny models: to see that it runs")
    parser.add_argument("--output", action="store_true", help="write a dated file to benchmarks/results/")
    return parser.parse_args()


def about(device: torch.device) -> dict[str, str]:
    """Describe the run: date, device, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"date": str(datetime.date.today()), "device": name, "python": platform.python_version(), **versions}


def measure(subject: Subject, batch: int, beams: int, new_tokens: int, times: int) -> dict[str, Any]:
    """Captions a second of engine, `generate` and floor, and the engine's stages in milliseconds a batch."""
    decoding = DecodingOptions(max_new_tokens=new_tokens, num_beams=beams)
    images = [random_pixels(subject.side, seed) for seed in range(batch)]
    forget_peak(subject.device)
    ours = fastest(subject, lambda: run_engine(subject, subject.backend, images, decoding), times)
    peak = peak_gigabytes(subject.device)
    theirs = fastest(subject, lambda: run_generate(subject, images, decoding), times)
    sizes = {"batch": batch, "new_tokens": new_tokens, "beams": beams}
    floor = floor_seconds(subject.model.config, subject.machine, **sizes, itemsize=subject.dtype.itemsize)
    rates = {"engine": ours and batch / ours, "generate": theirs and batch / theirs, "floor": batch / floor.total}
    return {
        "model": subject.name,
        "batch": batch,
        "beams": beams,
        "captions/s": rates,
        "engine / generate": ours and theirs and theirs / ours,
        "engine / floor": ours and floor.total / ours,
        "stages, ms": stages(subject, images, decoding),
        "floor, ms": {stage: 1e3 * seconds for stage, seconds in asdict(floor).items()},
        "preprocess, ms a picture, one thread": preprocess_ms(subject.side),
        "engine's peak memory, GB": peak,
    }


def fastest(subject: Subject, run: Callable[[], None], times: int) -> float | None:
    """Seconds of the fastest of `times` runs, after one to warm up; None where memory does not suffice."""
    seconds = []
    try:
        for _ in range(times + 1):
            begin = time.perf_counter()
            run()
            synchronize(subject.device)
            seconds.append(time.perf_counter() - begin)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return min(seconds[1:])


def peak_gigabytes(device: torch.device) -> float | None:
    """The most that tensors took since `forget_peak`, weights among them; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def in_words(row: dict[str, Any]) -> str:
    """One row for people."""
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in row["captions/s"].items() if rate)
    parts = ", ".join(f"{name} {value:.1f}" for name, value in row["stages, ms"].items())
    return f"{row['model']}, {row['beams']} beams, batch {row['batch']}: captions/s {rates}; ms: {parts}"


if __name__ == "__main__":
    main()
