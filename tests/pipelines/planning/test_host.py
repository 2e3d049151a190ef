"""Limits of containers, from files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from pipelines.planning.host import host_memory, usable_cpus

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_control_groups_the_machine_counts(root: Path) -> None:
    memory = host_memory(root)
    assert memory.total_bytes == psutil.virtual_memory().total
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert usable_cpus(root) == 16


def test_a_group_of_the_new_layout_limits(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/memory.current": f"{GIB * 3 // 4}\n",
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {GIB // 4}\nactive_file 7\n",
            "sys/fs/cgroup/cpu.max": "250000 100000\n",
        },
    )
    memory = host_memory(root)
    assert (memory.total_bytes, memory.available_bytes) == (GIB, GIB // 2)
    assert usable_cpus(root) == 2


def test_the_tightest_of_the_groups_around_it_counts(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/pods/pod1/main\n",
            "sys/fs/cgroup/pods/pod1/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/pods/pod1/memory.current": "0\n",
            "sys/fs/cgroup/pods/pod1/main/memory.max": "max\n",
            "sys/fs/cgroup/pods/pod1/main/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pods/pod1/cpu.max": "50000 100000\n",
        },
    )
    assert host_memory(root).total_bytes == GIB
    assert usable_cpus(root) == 1


@pytest.mark.parametrize("path", ["/docker/0123", "/"])
def test_a_group_of_the_old_layout_limits(root: Path, path: str) -> None:
    """Without a namespace of its own the container reads the host's path, but sees its group at the top."""
    write(
        root,
        {
            "proc/self/cgroup": f"4:memory:{path}\n3:cpuacct,cpu:{path}\n1:name=systemd:{path}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 4096\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    memory = host_memory(root)
    assert (memory.total_bytes, memory.available_bytes) == (2 * GIB, GIB + 4096)
    assert usable_cpus(root) == 4


def test_no_limit_in_either_layout(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "4:memory:/\n1:cpu:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert host_memory(root).total_bytes == psutil.virtual_memory().total
    assert usable_cpus(root) == 16
