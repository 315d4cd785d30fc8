"""Memory and files that the processes of a server hold. Linux only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.measure.processes import Processes


@dataclass(frozen=True)
class Books:
    """Numbers of processes, threads, open files and sockets, and files in shared memory; resident megabytes."""

    processes: int
    threads: int
    files: int
    shared_memory: int
    resident_mb: float

    @classmethod
    def of(cls, pid: int) -> "Books":
        """Count those of a process and its children."""
        parent = psutil.Process(pid)
        each = [parent, *parent.children(recursive=True)]
        return cls(
            len(each),
            sum(process.num_threads() for process in each),
            sum(process.num_fds() for process in each),
            sum(1 for _ in Path("/dev/shm").iterdir()),
            round(Processes(pid).resident_mb(), 1),
        )

    def gained(self, before: "Books") -> Mapping[str, float]:
        """Subtract what was there before; empty where nothing differs."""
        now, then = asdict(self), asdict(before)
        return {name: round(now[name] - then[name], 1) for name in now if now[name] != then[name]}
