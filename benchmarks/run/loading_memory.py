"""Measure loading's memory: peak RssAnon against the size of a checkpoint shaped like blip2-opt-2.7b.

Writes such a checkpoint (random bfloat16 weights in shards, 7.7 GB), loads it in a fresh process as the service does,
captions one picture, records the figures with their date and removes the checkpoint. Run it with `make measure-load`;
it needs 8 GB of disk and 11 GB of free memory.
"""

import argparse
import asyncio
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

from benchmarks import RESULTS
from benchmarks.measure.shapes import published_config
from blip2_serve.config import Settings
from blip2_serve.images import Upload
from blip2_serve.model.load import load_model
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import Answer
from blip2_serve.tasks.verbs import Tasks
from tests.support.tiny import byte_tokenizer

MOST = 1.3  # allowed peak, in multiples of the checkpoint's size
SHARD_BYTES = 2_000_000_000
Shard = dict[str, torch.Tensor]


def write_checkpoint(folder: Path) -> None:
    """Write the checkpoint shard by shard, with at most one shard in memory."""
    tokenizer = byte_tokenizer("opt")
    config = opt_2_7b_config(tokenizer.convert_tokens_to_ids("<image>"))
    config.save_pretrained(folder)
    image_processor = BlipImageProcessorPil(size={"height": 224, "width": 224})
    Blip2Processor(image_processor, tokenizer, num_query_tokens=32).save_pretrained(folder)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(random_shards(config), start=1):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def opt_2_7b_config(image_token: int) -> Blip2Config:
    """Build the config of Salesforce/blip2-opt-2.7b; the end token is the line feed, `<image>` is our tokenizer's."""
    config: Blip2Config = published_config("blip2-opt-2.7b")
    config.image_token_index = image_token
    config.text_config.eos_token_id = 50118
    return config


def random_shards(config: Blip2Config) -> Iterator[Shard]:
    """Yield all weights by name, random and in bfloat16; lm_head equals the embeddings, as in the published files."""
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in Blip2ForConditionalGeneration(config).state_dict().items()}
    shard: Shard = {}
    for name, shape in shapes.items():
        seed = 0 if "lm_head" in name or "embed_tokens" in name else len(name)
        generator = torch.Generator().manual_seed(seed)
        shard[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        if sum(weight.nbytes for weight in shard.values()) > SHARD_BYTES:
            yield shard
            shard = {}
    yield shard


class PeakRssAnon(threading.Thread):
    """Watch this process's anonymous memory: its allocations, without the pages of mapped files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.peak_with_mapped_files_bytes = 0

    def run(self) -> None:
        """Sample every 5 ms until the process ends."""
        while True:
            self.sample()
            time.sleep(0.005)

    def sample(self) -> int:
        """Update the peaks and return the current RssAnon in bytes."""
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
        rss_anon = int(fields["RssAnon"].split()[0]) * 1024
        self.peak_bytes = max(self.peak_bytes, rss_anon)
        self.peak_with_mapped_files_bytes = int(fields["VmHWM"].split()[0]) * 1024
        return rss_anon


def load_and_caption(folder: Path) -> dict[str, Any]:
    """Load and caption as the service does; return bytes and seconds."""
    watch = PeakRssAnon()
    imported = watch.sample()
    watch.start()
    began = time.perf_counter()
    settings = Settings.from_env()
    loaded = load_model(settings, folder)
    load_s, after_load = time.perf_counter() - began, watch.sample()
    tasks = Tasks(loaded, settings)
    answer = asyncio.run(_caption(tasks))
    tasks.close()
    watch.sample()
    return {
        "peak_rss_anon_bytes": watch.peak_bytes,
        "peak_rss_with_mapped_files_bytes": watch.peak_with_mapped_files_bytes,
        "rss_anon_before_bytes": imported,
        "rss_anon_loaded_bytes": after_load,
        "load_s": round(load_s, 1),
        "new_tokens": answer.new_tokens,
        "caption_s": round(sum(answer.timings_s.values()), 1),
    }


async def _caption(tasks: Tasks) -> Answer:
    picture = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(picture, "JPEG")
    return await tasks.caption(Upload(picture.getvalue()), None, DecodingOptions())


def measure_in_fresh_process(folder: Path) -> dict[str, Any]:
    """Run `load_and_caption` in a new process, so that nothing else counts."""
    environment = {**os.environ, "BLIP2_MODEL": str(folder), "BLIP2_DTYPE": "bfloat16", "BLIP2_DEVICE": "cpu"}
    command = [sys.executable, "-m", "benchmarks.run.loading_memory", "--load", str(folder)]
    output = subprocess.check_output(command, env=environment, text=True)
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def main() -> int:
    """Measure and record; return 1 if the peak exceeds `MOST` times the checkpoint, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    load = parser.parse_args().load
    if load:
        print(json.dumps(load_and_caption(load)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        result = {"checkpoint_bytes": size, **measure_in_fresh_process(Path(folder))}
    result["peak_over_checkpoint"] = round(result["peak_rss_anon_bytes"] / size, 3)
    record(result)
    return 0 if result["peak_over_checkpoint"] <= MOST else 1


def record(result: dict[str, Any]) -> None:
    """Print one JSON object and write it to a file named by today's date (UTC)."""
    now = datetime.now(UTC)
    machine = {"cpus": len(os.sched_getaffinity(0)), "python": platform.python_version(), "torch": torch.__version__}
    line = json.dumps({"measured": now.isoformat(timespec="seconds"), "what": "load", **result, **machine})
    print(line)
    (RESULTS / f"{now:%Y-%m-%d}-load.json").write_text(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
