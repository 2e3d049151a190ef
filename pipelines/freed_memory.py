"""Memory that tensors have freed is kept for the next ones, where glibc hands memory out.

By itself glibc asks the kernel for every block of more than 32 MB and returns it when it is freed. A frame's
features go through some thirty such blocks, and clearing new pages for all of them took a third of the time
on the CPU (848x480 to 3392x1920, two virtual cores: 14 of 36 s; kept, 2 of 26 s).
"""

from __future__ import annotations

import ctypes

from pipelines.planning.host import host_memory

# `mallopt`'s names for what it sets (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# What lies between kept blocks is lost to others: measured with blocks of 78 MB, 0.5 GB.
_MEMORY_FOR_EACH_BYTE = 64
_LEAST_BYTES, _MOST_BYTES = 32 << 20, 256 << 20


def keep_freed_memory() -> None:
    """Keeps blocks of up to 1/64 of the memory that is free now, from now on in this process.

    To be called when a process that computes begins, before it has threads. Does nothing where the C library
    is another one or memory is scarce.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    largest = min(_MOST_BYTES, host_memory().available_bytes // _MEMORY_FOR_EACH_BYTE)
    if mallopt is None or largest < _LEAST_BYTES:
        return
    # Older ones refuse more than 32 MB. Without it, the other threshold would make things worse.
    if mallopt(_MMAP_THRESHOLD, largest):
        mallopt(_TRIM_THRESHOLD, 2 * largest)
        # Threads would have 64 MB in one piece, and no larger block is kept there.
        mallopt(_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Returns what was kept to the kernel, for other programs."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
