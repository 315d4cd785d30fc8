"""A model in process: captions of the same images by our engine and by transformers' `generate`, and their stages."""

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BlipImageProcessorPil

from benchmarks.measure.floor import Machine, measured_bandwidth, measured_matrix_rate
from benchmarks.measure.shapes import IMAGE_TOKEN_ID, published_config, random_model, tiny_config
from benchmarks.measure.stages import StageClock, TimedBackend, timed_stages
from blip2_serve.engine.backends import make_backend
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Finished, ImageInput, Request
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.families import Family, find_family
from blip2_serve.images import load_image, squash
from blip2_serve.model.vision.encoder import ImageEncoder
from blip2_serve.options import DecodingOptions

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


def run_engine(subject: Subject, backend: Any, images: list[bytes], decoding: DecodingOptions) -> None:
    """All images as requests that come at once, until the last is answered; raises RuntimeError where one fails."""
    engine = Engine(
        backend,
        {"caption": subject.encode_images},
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


def preprocess_ms(side: int, times: int = 10) -> float:
    """From a JPEG of 640 x 480 to the model's square."""
    jpeg = io.BytesIO()
    Image.frombytes("RGB", (640, 480), noise(640 * 480 * 3, seed=0)).save(jpeg, "JPEG", quality=90)
    begin = time.perf_counter()
    for _ in range(times):
        squash(load_image(jpeg.getvalue(), 10**6).image, side, BICUBIC)
    return 1e3 * (time.perf_counter() - begin) / times


def random_pixels(side: int, seed: int) -> bytes:
    return noise(side * side * 3, seed)


def noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()
