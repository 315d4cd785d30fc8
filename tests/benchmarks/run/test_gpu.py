"""The benchmark for GPUs runs, tiny, on a CPU."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks.measure.in_process import make_subject, random_pixels, run_engine
from benchmarks.measure.stages import StageClock
from blip2_serve.options import DecodingOptions
from support.serving import ROOT


def run_tiny(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.run.gpu", "--tiny", "--device", "cpu", "--times", "1", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_every_model_batch_and_number_of_beams_is_measured() -> None:
    report = run_tiny("--batches", "1", "3", "--new-tokens", "4")
    found = [(row["model"], row["beams"], row["batch"]) for row in report["rows"]]
    models = ("blip2-opt-2.7b", "blip2-flan-t5-xl")
    assert found == [(model, beams, batch) for model in models for beams in (1, 5) for batch in (1, 3)]
    for row in report["rows"]:
        rates = row["captions/s"]
        assert rates["floor"] > rates["engine"] > 0
        assert row["engine / generate"] == pytest.approx(rates["engine"] / rates["generate"])
        stages = row["stages, ms"]
        assert {"vit", "qformer", "prefill", "decode", "picking", "host"} <= stages.keys()
        assert min(stages.values()) > 0
        parts = sum(value for name, value in stages.items() if name not in ("total", "decode step"))
        assert parts == pytest.approx(stages["total"])
        assert stages["decode"] == pytest.approx(4 * stages["decode step"])


def test_an_answer_of_another_length_ends_the_benchmark() -> None:
    subject = make_subject("blip2-opt-2.7b", torch.device("cpu"), tiny=True)
    images, decoding = [random_pixels(subject.side, 0)], DecodingOptions(max_new_tokens=4, num_beams=1)
    run_engine(subject, subject.backend, images, decoding)
    subject.backend.end_ids = tuple(range(subject.backend.vocab_size))
    with pytest.raises(RuntimeError, match="1 answers to 1 requests"):
        run_engine(subject, subject.backend, images, decoding)


def test_a_stage_inside_another_is_counted_once() -> None:
    clock = StageClock(torch.device("cpu"))
    with clock.stage("outer"):
        inner = clock.timed("inner", lambda: sum(range(200_000)))
        inner()
        inner()
    assert clock.calls == {"outer": 1, "inner": 2}
    assert clock.seconds["inner"] > 5 * clock.seconds["outer"] > 0
