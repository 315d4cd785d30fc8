"""Where the time of a caption goes on this CPU, stage by stage beside the floor: `make bench-stages`.

32 captions of 20 tokens of the `base` checkpoint, greedy, in process, all stages one after the other on all CPUs; the
server's two threads of work overlap them instead. A Markdown table, milliseconds a caption.
"""

import statistics

import torch

from benchmarks.compare.checkpoints import checkpoint
from benchmarks.measure.floor import (
    Machine,
    Stages,
    floor_seconds,
    measured_bandwidth,
    measured_matrix_rate,
    weights_read,
)
from benchmarks.measure.in_process import Subject, preprocess_ms, random_pixels, stages
from blip2_serve.config import Settings
from blip2_serve.engine.backends import make_backend
from blip2_serve.machine import available_cpus
from blip2_serve.model.load import load_model
from blip2_serve.model.vision.encoder import ImageEncoder
from blip2_serve.options import DecodingOptions

BATCH, NEW_TOKENS, TIMES = 32, 20, 5


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(available_cpus())
    subject = base()
    images = [random_pixels(subject.side, seed) for seed in range(BATCH)]
    decoding = DecodingOptions(num_beams=1, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    runs = [stages(subject, images, decoding) for _ in range(TIMES + 1)][1:]
    taken = {name: statistics.median(run[name] for run in runs) / BATCH for name in runs[0]}
    floor = floor_of(subject)
    print(f"matrix rate {subject.machine.matrix_rate / 1e12:.2f} TFLOP/s, bandwidth", end=" ")
    print(f"{subject.machine.bandwidth / 1e9:.1f} GB/s, {torch.get_num_threads()} threads\n")
    print("| stage | ms a caption | floor |\n|---|---|---|")
    print(f"| JPEG to the model's square (beside the model) | {preprocess_ms(subject.side):.1f} | |")
    for name in ("vit", "qformer", "prefill", "decode", "picking", "host", "total"):
        least = f"{1e3 * getattr(floor, name) / BATCH:.1f}" if hasattr(floor, name) else ""
        print(f"| {name} | {taken[name]:.1f} | {least} |")


def base() -> Subject:
    """The checkpoint as the server loads it."""
    served = checkpoint("base")
    loaded = load_model(Settings(model=served.model, dtype=served.dtype), served.folder)
    config, dtype = loaded.model.config, getattr(torch, served.dtype)
    num_bytes = int(weights_read(config).decode * dtype.itemsize)
    machine = Machine(measured_matrix_rate(dtype), measured_bandwidth(num_bytes=num_bytes))
    encoder = ImageEncoder(loaded.model, loaded.image_processor)
    backend = make_backend(loaded.model, loaded.family)
    return Subject("base", loaded.model, encoder, backend, torch.device("cpu"), dtype, machine)


def floor_of(subject: Subject) -> Stages:
    """Seconds of all captions."""
    return floor_seconds(
        subject.model.config,
        subject.machine,
        batch=BATCH,
        new_tokens=NEW_TOKENS,
        itemsize=subject.dtype.itemsize,
    )


if __name__ == "__main__":
    main()
