"""Peer (c): transformers' `generate` on full batches, one after the other, in a process of its own and without HTTP.

It writes "ready", and then a line for every line {"series", "seconds"} on its input: how many seconds each batch took.
Pictures are decoded and processed inside that time. PEER_BATCH is the size of a batch.
"""

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice

from PIL import Image

from benchmarks.measure.workloads import Call, captions
from benchmarks.peers.padded import Job, PaddedGenerate


def main() -> None:
    """Answer until the input ends."""
    generate, batch = PaddedGenerate(), int(os.environ["PEER_BATCH"])
    caption_batch(generate, captions("warm-up"), batch)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(batch_seconds(generate, captions(asked["series"]), batch, asked["seconds"])), flush=True)


def batch_seconds(generate: PaddedGenerate, calls: Iterator[Call], batch: int, seconds: float) -> list[float]:
    """Seconds of each batch, until `seconds` have passed."""
    took: list[float] = []
    while sum(took) < seconds:
        begin = time.perf_counter()
        caption_batch(generate, calls, batch)
        took.append(time.perf_counter() - begin)
    return took


def caption_batch(generate: PaddedGenerate, calls: Iterator[Call], batch: int) -> list[str]:
    """The captions of the next `batch` pictures."""
    jobs = []
    for call in islice(calls, batch):
        image = Image.open(io.BytesIO(call.picture)).convert("RGB")
        jobs.append(Job(image, "", call.num_tokens))
    return generate(jobs)


if __name__ == "__main__":
    main()
