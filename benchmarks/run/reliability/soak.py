"""Half an hour of mixed requests at 80 % of what the server can do: does its memory stay where it was?

`make soak` (35 minutes): captions, answers and chats, greedy, sampled and with beams, bad pictures and callers that
vanish among them, from 16 addresses at random moments. Resident memory is read every ten seconds; the last minute is
compared with minute five. Prints one line of JSON and writes it to benchmarks/results/.
"""

import argparse
import json
import random
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.hostile.crowd import Errand, closed_loop, latencies_ms, open_loop, rate_of, statuses
from benchmarks.hostile.memory_log import Readings, memory_log
from benchmarks.hostile.report import report
from benchmarks.measure.posts import multipart
from tests.support.serving import Server
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

LOAD = 0.8
NUM_CALLERS = 32
NUM_PICTURES = 400
READ_EVERY_S = 10.0
CAPACITY_S = 30.0


def main() -> None:
    """Run the soak and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    # What is filled on purpose, the image cache and the cache of rows, is small: full before the first reading.
    bounds = {"BLIP2_IMAGE_CACHE_BYTES": str(2**20), "BLIP2_MAX_ROWS": "32"}
    settings = {"BLIP2_MODEL": options.model, "BLIP2_UI": "on", **bounds}
    report("soak", settings, lambda server: soak(server, options.minutes * 60))


def soak(server: Server, seconds: float) -> dict[str, Any]:
    """Send requests for so long; returns megabytes, and how the requests ended."""
    errands = mixed()
    capacity = rate_of(closed_loop(server.url, errands, NUM_CALLERS, CAPACITY_S))
    with memory_log(server.pid, READ_EVERY_S) as memory:
        answers = open_loop(server.url, errands, LOAD * capacity, seconds)
    minute_five = _median(memory, max(seconds / 6, 2 * READ_EVERY_S))
    at_the_end = _median(memory, seconds)
    return {
        "capacity_per_s": round(capacity, 1),
        "statuses": statuses(answers),
        "answered_ms": latencies_ms(answers),
        "minute_five_mb": minute_five,
        "at_the_end_mb": at_the_end,
        "growth": round(at_the_end / minute_five - 1, 4),
        f"resident_mb_every_{READ_EVERY_S:g}_s": [mb for _, mb in memory],
    }


def _median(readings: Readings, until: float) -> float:
    """Return the median of the megabytes read in the minute before a moment."""
    return statistics.median(mb for moment, mb in readings if until - 60 <= moment <= until)


def mixed() -> Iterator[Errand]:
    """Draw pictures, for seconds, and return an endless mix of requests about them, the same in every run."""
    return _mixed([jpeg_bytes(standard(index)[1], 80) for index in range(NUM_PICTURES)])


def _mixed(pictures: Sequence[bytes]) -> Iterator[Errand]:
    rng = random.Random(0)
    while True:
        path = rng.choice(["/generate", "/vqa", "/chat"])
        fields = {"max_new_tokens": str(rng.randint(1, 30))} | rng.choice(
            [{"num_beams": "1"}, {"num_beams": "5"}, {"num_beams": "3"}, {"do_sample": "true", "temperature": "2"}]
        )
        if path != "/generate":
            fields["txt"] = rng.choice(["what color is it?", "how many shapes are there?", "x" * rng.randint(1, 300)])
        if path == "/chat":
            fields["context"] = json.dumps([["what shape is red?", "star"]] * rng.randint(0, 6))
        picture = rng.choice(pictures)
        if rng.random() < 0.03:
            picture = picture[: rng.randrange(len(picture))]
        yield Errand(multipart(path, fields, picture), 0.02 if rng.random() < 0.03 else 60.0)


if __name__ == "__main__":
    main()
