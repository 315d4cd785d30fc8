"""The checkpoints that are served, and the settings at which each peer was fastest on two cores (run/tune_peers.py)."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from benchmarks.compare.base_checkpoint import save_base
from blip2_serve.model.device import cpu_has_fast_bfloat16

BASE = ROOT / "work" / "base"


@dataclass(frozen=True)
class Checkpoint:
    """A served checkpoint: the name BLIP2_MODEL takes, its folder, the dtype of all, and the peers' settings.

    `measure_s` is how long a closed loop is measured: enough for a few batches of the slowest.
    """

    name: str
    model: str
    folder: Path
    dtype: str
    peer_threads: int
    peer_batch: int
    measure_s: float


def checkpoint(name: str) -> Checkpoint:
    """`demo`, or `base`, which is written first where it is not there yet."""
    if name == "demo":
        return Checkpoint("demo", "demo", ROOT / "blip2_serve" / "checkpoints" / "demo", "float32", 1, 32, 5)
    if not (BASE / "processor_config.json").exists():  # what is written last
        save_base(BASE)
    dtype = "bfloat16" if cpu_has_fast_bfloat16() else "float32"
    return Checkpoint("base", str(BASE), BASE, dtype, 2, 16, 8)
