"""CPU seconds and memory of a server's processes, and the processor's name. Linux only."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Processes:
    """A process and its children."""

    pid: int

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._all())

    def peak_mb(self) -> float:
        """Each one's largest resident memory since it started, in megabytes; pages they share count for each."""
        return sum(_peak_kib(process.pid) for process in self._all()) * 1024 / 1e6

    def resident_mb(self) -> float:
        """Resident memory now, in megabytes; pages that processes share count for each."""
        return sum(float(process.memory_info().rss) for process in self._all()) / 1e6

    def _all(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]


def cpu_name() -> str:
    """Name the processor that this runs on."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


def _peak_kib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0  # a process that is ending has no memory
