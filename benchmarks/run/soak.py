"""Many mixed requests against the real server: does its memory stay where it was?

`make soak`: 10,000 requests to the demo checkpoint, captions, answers and chats, greedy, sampled and with beams, bad
pictures and callers that vanish among them. The resident memory of the server is read after the first 1,000 and after
the last, and every 1,000 between. Prints one line of JSON and writes it to benchmarks/results/.
"""

import argparse
import datetime
import itertools
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
from tqdm import tqdm

from benchmarks import RESULTS
from tests.support.serving import Server, serve
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

NUM_CLIENTS = 16
NUM_PICTURES = 400
READ_EVERY = 1_000

Call = tuple[str, dict[str, str], bytes, float]


def main() -> None:
    """Run the soak and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    # What is filled on purpose, the image cache and the cache of rows, is small: full before the first reading.
    bounds = {"BLIP2_IMAGE_CACHE_BYTES": str(2**20), "BLIP2_MAX_ROWS": "32"}
    settings = {"BLIP2_MODEL": options.model, "BLIP2_UI": "on", **bounds}
    with tempfile.TemporaryDirectory() as home, serve(Path(home), settings) as server:
        report = {"date": str(datetime.date.today()), "model": options.model, **soak(server, options.requests)}
    line = json.dumps(report)
    (RESULTS / f"soak-{options.model}-{report['date']}.json").write_text(line + "\n")
    print(line)


def soak(server: Server, num_requests: int) -> dict[str, Any]:
    """Send the requests; returns megabytes at both readings and how the requests ended."""
    outcomes: Counter[str] = Counter()
    calls = itertools.islice(mixed_calls(), num_requests)
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(NUM_CLIENTS) as clients:
        progress = tqdm(clients.map(lambda call: outcome(client, call), calls), total=num_requests, unit="request")
        readings = []
        for number, ended in enumerate(progress, start=1):
            outcomes[ended] += 1
            if number % READ_EVERY == 0:
                readings.append(resident_mb(server.pid))
        assert client.get("/livez").status_code == 200
    return {
        "requests": num_requests,
        "outcomes": dict(sorted(outcomes.items())),
        f"rss_mb_every_{READ_EVERY}": readings,
        "growth": round(readings[-1] / readings[0] - 1, 4),
    }


def mixed_calls() -> Iterator[Call]:
    """An endless mix of (path, fields, picture, timeout in seconds), the same in every run."""
    rng = random.Random(0)
    pictures = [jpeg_bytes(standard(index)[1], 80) for index in range(NUM_PICTURES)]
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
        yield path, fields, picture, 0.02 if rng.random() < 0.03 else 60.0


def outcome(client: httpx.Client, call: Call) -> str:
    """The status of one request, or "vanished" for a caller that did not wait."""
    path, fields, picture, timeout = call
    try:
        return str(client.post(path, data=fields, files={"img": picture}, timeout=timeout).status_code)
    except httpx.TimeoutException:
        return "vanished"


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all its children, in megabytes."""
    process = psutil.Process(pid)
    return round(sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 1e6, 1)


if __name__ == "__main__":
    main()
