"""What this process may have of its host: memory and processors, also where a container's limits allow less.

What psutil and os.cpu_count tell is the whole machine, inside a container too. The container's limits are in
files of its control group and of those above it (docs.kernel.org/admin-guide/cgroup-v2.html, and
cgroup-v1/memory.html for the older layout).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

_ROOT = Path("/")
_NO_LIMIT = 1 << 60
"""cgroup v1 writes the largest multiple of a page below 2^63 where there is no limit."""


@dataclass(frozen=True)
class HostMemory:
    """Memory that a process can count on.

    Attributes:
        total_bytes: Of the machine, or what the container may take.
        available_bytes: What is left of it; page cache that can be dropped counts as left.
    """

    total_bytes: int
    available_bytes: int


def host_memory(root: Path = _ROOT) -> HostMemory:
    """Memory of the machine or of the tightest control group around this process.

    Args:
        root: Where `proc` and `sys` are, for tests.
    """
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for folder in _groups(root, "memory"):
        limit = _number(folder, "memory.max", "memory.limit_in_bytes")
        if limit is None or limit >= min(_NO_LIMIT, machine.total):
            continue
        used = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
        total = min(total, limit)
        available = min(available, max(0, limit - used + _droppable(folder)))
    return HostMemory(total, available)


def usable_cpus(root: Path = _ROOT) -> int:
    """Processors that this process may keep busy, by affinity and the tightest quota around it; at least 1.

    Args:
        root: Where `proc` and `sys` are, for tests.
    """
    count = float(len(os.sched_getaffinity(0)))
    for folder in _groups(root, "cpu"):
        quota, period = _quota(folder)
        if quota is not None and period:
            count = min(count, quota / period)
    # Half a processor more than whole ones is worth a thread, a tenth is not.
    return max(1, round(count))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups around this process, the innermost first, as far as it sees them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names:
            base = mount
        elif controller in names.split(","):
            base = mount / controller if (mount / controller).is_dir() else mount / names
        else:
            continue
        # A container may see its own group as the top, while the path is the host's: that is no folder then.
        for part in (PurePosixPath(path), *PurePosixPath(path).parents):
            folder = base / str(part).lstrip("/")
            if folder.is_dir():
                yield folder


def _number(folder: Path, *names: str) -> int | None:
    """The number in the first of the files that is there; None without one, and for "max"."""
    for name in names:
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.lstrip("-").isdigit() else None
    return None


def _droppable(folder: Path) -> int:
    """Bytes of page cache that the kernel gives up first."""
    try:
        pairs = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    # The old layout has a group's own pages, and those of all below it under `total_`.
    return int(pairs.get("total_inactive_file", pairs.get("inactive_file", 0)))


def _quota(folder: Path) -> tuple[float | None, float]:
    """Microseconds of processor time for each period, and the period; no quota is None."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return (None if quota == "max" else float(quota)), float(period)
    except (OSError, ValueError):
        old = _number(folder, "cpu.cfs_quota_us")
        return (None if old is None or old < 0 else float(old)), float(
            _number(folder, "cpu.cfs_period_us") or 0
        )
