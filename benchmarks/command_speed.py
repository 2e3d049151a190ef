"""`dovetail upscale` as it is beside the same command of an earlier commit.

    python -m benchmarks.command_speed --before 6d6f2eb --size 848x480 --frames 8

Whole commands in turns, as a user runs them, start and encoder included. Times are the least of a few rounds;
on a machine that others use, the processor's seconds say more than the clock's. The kernel's share of them is
mostly pages for memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.earlier_commit import ROOT, extract_commit
from benchmarks.results_file import RESULTS, write_results
from workers.bench import make_source


def run_command(code: Path, source: Path, output: Path, model: str) -> dict[str, float]:
    """Seconds of the clock, of the processor and of it in the kernel, and the peak of memory in MB."""
    command = [sys.executable, "-m", "cli.main", "upscale", str(source), str(output)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--model", model, "--overwrite", "--quiet"],
        cwd=output.parent,
        env={**os.environ, "PYTHONPATH": str(code)},
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the command of {code} failed")
    return {
        "wall": time.perf_counter() - started,
        "processor": used.ru_utime + used.ru_stime,
        "kernel": used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs both in turns."""
    width, height = map(int, arguments.size.split("x"))
    source = make_source(folder / "clip.mp4", num_frames=arguments.frames, width=width, height=height)
    sides = {"before": extract_commit(arguments.before, folder / "before"), "after": ROOT}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, code in sides.items():
            rounds[name].append(run_command(code, source, folder / "out.mp4", arguments.model))
    least = {name: {key: min(run[key] for run in runs) for key in runs[0]} for name, runs in rounds.items()}
    return {
        "before": arguments.before,
        "size": arguments.size,
        "frames": arguments.frames,
        "model": arguments.model,
        **{name: {key: round(value, 2) for key, value in values.items()} for name, values in least.items()},
        "ratio": {key: round(least["after"][key] / value, 3) for key, value in least["before"].items()},
    }


def main() -> None:
    """Measures and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="6d6f2eb", help="an earlier commit")
    parser.add_argument("--model", default="dovetail-nano-2")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dovetail-speed-") as folder:
        found = compare(Path(folder), arguments)
    write_results("command_speed", found, variant=arguments.size, folder=arguments.results)


if __name__ == "__main__":
    main()
