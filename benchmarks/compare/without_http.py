"""Comparisons without HTTP: a static batch (c), run by peers/static.py, and the floor (d)."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

import torch
from transformers import Blip2Config

from benchmarks import ROOT
from benchmarks.compare.checkpoints import Checkpoint
from benchmarks.compare.targets import QUIET, peer_settings
from benchmarks.measure.floor import Machine, floor_seconds, measured_bandwidth, measured_matrix_rate, weights_read
from benchmarks.measure.measured import Measured
from benchmarks.measure.processes import Processes
from blip2_serve.machine import available_cpus

NEW_TOKENS = 20


@dataclass(frozen=True)
class StaticBatches:
    """A process that waits to caption a few batches of W1."""

    processes: Processes
    batch: int
    questions: IO[str]
    answers: IO[str]

    def measure(self, series: str, seconds: float) -> Measured:
        """`p50_s` is what a batch took; a request is one picture of it."""
        cpu_before = self.processes.cpu_seconds()
        print(json.dumps({"series": series, "seconds": seconds}), file=self.questions, flush=True)
        took: list[float] = json.loads(self.answers.readline())
        num_requests = self.batch * len(took)
        return Measured(
            requests_per_s=num_requests / sum(took),
            p50_s=statistics.median(took),
            cpu_s_per_request=(self.processes.cpu_seconds() - cpu_before) / num_requests,
            peak_mb=self.processes.peak_mb(),
        )


@contextmanager
def static_batches(checkpoint: Checkpoint) -> Iterator[StaticBatches]:
    """Start peers/static.py and wait until it is ready; RuntimeError where it ends instead."""
    command = [sys.executable, "-m", "benchmarks.peers.static"]
    environment = {**os.environ, **QUIET, **peer_settings(checkpoint)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        if answers.readline() != "ready\n":
            raise RuntimeError("The static batch did not start: its reason is printed above.")
        yield StaticBatches(Processes(process.pid), checkpoint.peer_batch, questions, answers)


def floor(checkpoint: Checkpoint, batch: int) -> Measured:
    """Least seconds for `batch` captions of W1 at once, at rates measured now on all CPUs."""
    config = Blip2Config.from_pretrained(checkpoint.folder)
    dtype = getattr(torch, checkpoint.dtype)
    threads = available_cpus()
    num_bytes = int(weights_read(config).decode * dtype.itemsize)
    machine = Machine(
        measured_matrix_rate(dtype, threads=threads), measured_bandwidth(threads=threads, num_bytes=num_bytes)
    )
    seconds = floor_seconds(config, machine, batch=batch, new_tokens=NEW_TOKENS, itemsize=dtype.itemsize).total
    return Measured(requests_per_s=batch / seconds, p50_s=seconds)
