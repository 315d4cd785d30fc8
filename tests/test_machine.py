"""CPUs and memory within the limits of a container, of both versions of cgroups."""

from pathlib import Path

import pytest

from blip2_serve.machine import available_cpus, cgroup_quota, cgroup_room


def test_threads_follow_thecgroup_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path) is None
    assert available_cpus() >= 1


def test_the_older_cgroups_are_understood(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path) == 2.0
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "used", "stat", "inactive"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ],
)
def test_files_that_were_read_do_not_count_as_memory_in_use(
    tmp_path: Path, limit: str, used: str, stat: str, inactive: str
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("900\n")
    assert cgroup_room(tmp_path) == 100
    (tmp_path / stat).write_text(f"anon 200\ninactive_file 600\nactive_file 100\n{inactive} 600\n")
    assert cgroup_room(tmp_path) == 700


def test_without_a_limit_the_cgroup_says_nothing_about_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert cgroup_room(tmp_path) is None
