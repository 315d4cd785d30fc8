"""How each server is started: ours, the tutorials' (a), BentoML's adaptive batching (b)."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.compare.checkpoints import Checkpoint
from benchmarks.measure.load import Target
from benchmarks.measure.posts import Post, to_adaptive, to_ours, to_tutorial
from benchmarks.measure.processes import Processes
from benchmarks.measure.workloads import Call
from tests.support.serving import serve

# Threads of one server that wait must not take the cores from another.
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}


@contextmanager
def started(name: str, checkpoint: Checkpoint) -> Iterator[Target]:
    """Start one of TARGETS on a checkpoint."""
    service, post, settings = TARGETS[name]
    with (
        tempfile.TemporaryDirectory() as home,
        serve(Path(home), {**QUIET, **settings(checkpoint)}, service) as server,
    ):
        yield Target(name, server.url, Processes(server.pid), post)


def our_settings(checkpoint: Checkpoint) -> Mapping[str, str]:
    """As anybody would start it."""
    return {"BLIP2_MODEL": checkpoint.model, "BLIP2_UI": "on", "BLIP2_DTYPE": checkpoint.dtype}


def peer_settings(checkpoint: Checkpoint) -> Mapping[str, str]:
    """Requests as peers/padded.py and peers/adaptive.py read them."""
    return {
        "PEER_MODEL": str(checkpoint.folder),
        "PEER_DTYPE": checkpoint.dtype,
        "PEER_THREADS": str(checkpoint.peer_threads),
        "PEER_BATCH": str(checkpoint.peer_batch),
    }


Settings = Callable[[Checkpoint], Mapping[str, str]]
TARGETS: dict[str, tuple[str, Callable[[Call], Post], Settings]] = {
    "ours": ("service:Blip2", to_ours, our_settings),
    "a": ("benchmarks.peers.tutorial:Tutorial", to_tutorial, peer_settings),
    "b": ("benchmarks.peers.adaptive:Adaptive", to_adaptive, peer_settings),
}
