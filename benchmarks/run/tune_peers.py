"""Finds the settings that suit the peers best on this machine: (a) by threads, (b) by threads and largest batch.

`make tune-peers`: W1 with 32 clients. compare/checkpoints.py holds what came out on two cores; compare, and change
it for another machine.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

from tqdm import tqdm  # type: ignore[import-untyped]

from benchmarks.compare.checkpoints import Checkpoint, checkpoint
from benchmarks.compare.targets import started
from benchmarks.measure.load import closed_loop
from benchmarks.measure.workloads import WORKLOADS
from benchmarks.run.bench import CHECKPOINTS

NUM_CLIENTS = 32
THREADS = (1, 2)
BATCHES = (8, 16, 32)


def main() -> None:
    """Try everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="demo")
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    print("| peer | threads | batch | requests/s |\n|---|---|---|---|")
    for name, tried in tqdm(list(candidates(checkpoint(options.checkpoint)))):
        rate = requests_per_s(name, tried, options.seconds)
        tqdm.write(f"| ({name}) | {tried.peer_threads} | {tried.peer_batch if name == 'b' else ''} | {rate:.1f} |")


def candidates(served: Checkpoint) -> Iterator[tuple[str, Checkpoint]]:
    """A peer's name and the checkpoint with its settings."""
    for threads in THREADS:
        yield "a", replace(served, peer_threads=threads)
        for batch in BATCHES:
            yield "b", replace(served, peer_threads=threads, peer_batch=batch)


def requests_per_s(name: str, tried: Checkpoint, seconds: float) -> float:
    """Of a server that is started for it."""
    with started(name, tried) as target:
        calls = WORKLOADS["W1"](f"{name} {tried.peer_threads} {tried.peer_batch}")
        return closed_loop(target, calls, NUM_CLIENTS, warm_up_s=2, measure_s=seconds).requests_per_s


if __name__ == "__main__":
    main()
