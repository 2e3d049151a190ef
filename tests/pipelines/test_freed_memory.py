"""How often a process has to ask for pages that it has had before."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PAGES_ASKED_FOR = """
import resource, sys, threading
import torch
from pipelines.freed_memory import keep_freed_memory, return_freed_memory

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    torch.set_num_threads(1)
    before = pages()
    for _ in range(16):
        ones = torch.ones(12_000_000)
        (ones + 1).sum()
        del ones
    print(pages() - before)

if sys.argv[1] == "keep":
    keep_freed_memory()
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
if sys.argv[1] == "keep":
    return_freed_memory()
    work()
"""
PAGES_OF_A_TENSOR = 12_000_000 * 4 // 4096


def pages_asked_for(how: str) -> list[int]:
    command = [sys.executable, "-c", PAGES_ASKED_FOR, how]
    # The tests' own processes may keep memory by such variables.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    return [*map(int, done.stdout.split())]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory their own way")
def test_memory_of_large_tensors_is_kept_for_the_next_ones_and_can_be_returned() -> None:
    here, in_a_thread, after_return = pages_asked_for("keep")
    assert max(here, in_a_thread) < 12 * PAGES_OF_A_TENSOR
    assert after_return > PAGES_OF_A_TENSOR
    assert min(pages_asked_for("not")) > 24 * PAGES_OF_A_TENSOR
