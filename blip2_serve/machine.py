"""CPUs and memory that this process may use: the machine's, or less where a container is limited by cgroups."""

import os
from pathlib import Path


def available_cpus() -> int:
    """Count the CPUs this process may use: the smaller of its affinity mask and its cgroup's quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, min(allowed, int(quota)) if quota else allowed)


def available_memory_bytes() -> int:
    """Return the bytes of main memory still available: the smaller of free memory and the cgroup's room.

    Raises:
        OSError: the system has no /proc/meminfo.
    """
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(meminfo["MemAvailable"].split()[0]) * 1024
    room = cgroup_room(Path("/sys/fs/cgroup"))
    return free if room is None else max(0, min(free, room))


def cgroup_room(root: Path) -> int | None:
    """Return the bytes left below the memory limit of cgroup v2 or v1; None without a limit.

    Cgroups count cached file pages as used, although the kernel reclaims inactive ones at once. Weights read from
    disk may fill the whole limit with them, so inactive file pages count as free here.
    """
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            taken = int((root / used).read_text()) - _inactive_file_bytes(root / stat)
            return int((root / limit).read_text()) - taken
        except (OSError, ValueError):  # ValueError: v2 writes "max" for no limit
            continue
    return None


def _inactive_file_bytes(stat: Path) -> int:
    try:
        numbers = dict(line.split() for line in stat.read_text().splitlines())
    except OSError:
        return 0
    # v1 includes child cgroups only under "total_"; v2 always does, under the plain name.
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))


def cgroup_quota(root: Path) -> float | None:
    """Return the CPUs granted by cgroup v2 (`cpu.max`) or v1 (`cpu.cfs_quota_us`); None without a quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
