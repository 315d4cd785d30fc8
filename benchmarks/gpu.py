"""How fast the engine is on this device, beside transformers and beside what the device could do at best.

`python -m benchmarks.gpu`: random weights with the shapes of blip2-opt-2.7b and blip2-flan-t5-xl, made on the device;
no network, no HTTP. Captions of exactly 20 new tokens, greedy and with five beams, in batches of 1 to 256, by our
engine in process and by transformers' `generate`; the seconds of each stage; the floor (benchmarks/floor.py). Takes
less than eight minutes on a large GPU. The last line is JSON; `--output` also writes it to benchmarks/results/.
"""

import argparse
import datetime
import io
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tqdm import tqdm
from transformers import BlipImageProcessorPil

from benchmarks.floor import Machine, floor_seconds, measured_bandwidth, measured_matrix_rate, synchronize
from benchmarks.shapes import IMAGE_TOKEN_ID, published_config, random_model, tiny_config
from benchmarks.stages import StageClock, TimedBackend, timed_stages
from blip2_serve.engine.backends import make_backend
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Finished, ImageInput, Request
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.families import Family, find_family
from blip2_serve.images import load_image, squash
from blip2_serve.model.vision.encoder import ImageEncoder
from blip2_serve.options import DecodingOptions

RESULTS = Path(__file__).parent / "results"
DTYPES = {"blip2-opt-2.7b": torch.float16, "blip2-flan-t5-xl": torch.bfloat16}
PROMPT_IDS = {"opt": (2,), "t5": (1,)}  # the empty prompt: BOS, or `</s>`
IMAGES_PER_STEP, PREFILL_TOKENS = 16, 2048  # as engine/build.py has them on a GPU
BICUBIC = 3


@dataclass(frozen=True)
class Subject:
    """A model to be measured."""

    name: str
    model: Any
    encode_images: ImageEncoder
    backend: Any
    device: torch.device
    dtype: torch.dtype
    machine: Machine

    @property
    def side(self) -> int:
        return int(self.model.config.vision_config.image_size)


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
    """What ran where and when."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"date": str(datetime.date.today()), "device": name, "python": platform.python_version(), **versions}


def family_of(config: Any) -> Family:
    """The family of a model that was made from `config`."""
    family = find_family(config.model_type, config.text_config.model_type)
    assert family is not None
    return family


def make_subject(name: str, device: torch.device, tiny: bool) -> Subject:
    """Weights on the device, in half precision there; tiny ones are float32 and ask the machine for little."""
    dtype = torch.float32 if tiny else DTYPES[name]
    config = tiny_config(name) if tiny else published_config(name)
    model = random_model(config, device, dtype)
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    rate = measured_matrix_rate(dtype, device, side=256 if tiny else None)
    bandwidth = measured_bandwidth(device, num_bytes=2**22 if tiny else None)
    return Subject(
        name,
        model,
        ImageEncoder(model, BlipImageProcessorPil(size=size)),
        make_backend(model, family_of(config)),
        device,
        dtype,
        Machine(rate, bandwidth),
    )


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


def run_engine(subject: Subject, backend: Any, images: list[bytes], decoding: DecodingOptions) -> None:
    """All images as requests that come at once, until the last is answered; raises RuntimeError where one fails."""
    engine = Engine(
        backend,
        subject.encode_images,
        lambda ids: "",
        image_cache=ImageCache(0),
        max_rows=max(16, len(images) * decoding.num_beams),
        max_queue=len(images),
        max_images_per_step=IMAGES_PER_STEP,
        max_prefill_tokens=PREFILL_TOKENS,
    )
    events: list[Event] = []
    prompt_ids = PROMPT_IDS[subject.model.config.text_config.model_type]
    for index, pixels in enumerate(images):
        engine.submit(Request(index, ImageInput(b"%d" % index, pixels), prompt_ids, decoding), events.append)
    while engine.step():
        pass
    lengths = {len(event.rows[0].ids) if isinstance(event, Finished) else None for event in events}
    if len(events) != len(images) or lengths != {decoding.max_new_tokens}:
        raise RuntimeError(f"{len(events)} answers to {len(images)} requests, of {lengths} tokens")


@torch.inference_mode()
def run_generate(subject: Subject, images: list[bytes], decoding: DecodingOptions) -> None:
    """transformers' own way, all images as one batch."""
    side, config = subject.side, subject.model.config
    pixels = torch.frombuffer(bytearray(b"".join(images)), dtype=torch.uint8).view(-1, side, side, 3)
    values = pixels.to(subject.device).permute(0, 3, 1, 2).to(subject.dtype) / 255
    ids = (IMAGE_TOKEN_ID,) * config.num_query_tokens + PROMPT_IDS[config.text_config.model_type]
    input_ids = torch.tensor([ids] * len(images), device=subject.device)
    output = subject.model.generate(
        pixel_values=values,
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        do_sample=False,
    )
    begin = len(ids) if family_of(config).decoder_only else 1
    if output.shape[1] - begin != decoding.max_new_tokens:
        raise RuntimeError(f"generate gave {output.shape[1] - begin} new tokens")


def stages(subject: Subject, images: list[bytes], decoding: DecodingOptions) -> dict[str, float]:
    """Milliseconds of each stage of one batch; "host" is what no stage took, "decode step" the mean of a step."""
    clock = StageClock(subject.device)
    begin = time.perf_counter()
    with timed_stages(subject.encode_images, clock):
        run_engine(subject, TimedBackend(subject.backend, clock), images, decoding)
    total = time.perf_counter() - begin
    milliseconds = {name: 1e3 * seconds for name, seconds in clock.seconds.items()}
    milliseconds["host"] = 1e3 * (total - sum(clock.seconds.values()))
    return {**milliseconds, "decode step": milliseconds["decode"] / clock.calls["decode"], "total": 1e3 * total}


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


def preprocess_ms(side: int, times: int = 10) -> float:
    """From a JPEG of 640 x 480 to the model's square."""
    jpeg = io.BytesIO()
    Image.frombytes("RGB", (640, 480), noise(640 * 480 * 3, seed=0)).save(jpeg, "JPEG", quality=90)
    begin = time.perf_counter()
    for _ in range(times):
        with load_image(jpeg.getvalue(), 10**6) as picture:
            squash(picture.image, side, BICUBIC)
    return 1e3 * (time.perf_counter() - begin) / times


def random_pixels(side: int, seed: int) -> bytes:
    return noise(side * side * 3, seed)


def noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


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
