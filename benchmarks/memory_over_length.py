"""Peak memory of `dovetail upscale` for a short and a long video: it must not grow with length.

    python -m benchmarks.memory_over_length                       # bicubic, 10 s and 10 min
    python -m benchmarks.memory_over_length --model dovetail-dit-nano --seconds 10 60 --size 32x32

Every run is a process of its own, and the peak is what the system says of that process when it has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from benchmarks.results_file import RESULTS, write_results
from media import ColorTags, EncodeOptions, SegmentWriter, VideoFormat

ROOT = Path(__file__).parents[1]
RATE = 24
TOLERANCE = 0.1


def main() -> None:
    """Runs all lengths, writes the numbers, and fails where memory grew by more than the tolerance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="bicubic")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 600])
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--scale", default="2")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dovetail-memory-") as name:
        for seconds in arguments.seconds:
            source = make_video(Path(name) / f"{seconds}.mp4", seconds=seconds, width=width, height=height)
            runs.append(run(source, seconds, model=arguments.model, scale=arguments.scale))
            print(json.dumps(runs[-1]), flush=True)
    growth = runs[-1]["peak_bytes"] / runs[0]["peak_bytes"] - 1
    report = {
        "torch": torch.__version__,
        "size": arguments.size,
        "scale": arguments.scale,
        "model": arguments.model,
        "runs": runs,
        "growth": growth,
    }
    write_results("memory_over_length", report, variant=Path(arguments.model).name, folder=arguments.results)
    print(f"{growth:+.1%} from {runs[0]['seconds']} s to {runs[-1]['seconds']} s")
    sys.exit(growth > TOLERANCE)


def make_video(path: Path, *, seconds: int, width: int, height: int) -> Path:
    """A picture of noise that slides, as one segment file, which is an MP4."""
    generator = torch.Generator().manual_seed(0)
    canvas = torch.rand(3, height, 2 * width, generator=generator)
    video_format = VideoFormat(
        width=width,
        height=height,
        time_base=Fraction(1, RATE),
        rate=Fraction(RATE),
        color=ColorTags(1, 1, 1, full_range=False),
    )
    with SegmentWriter(path, video_format, EncodeOptions(preset="ultrafast", crf=30)) as writer:
        for number in range(seconds * RATE):
            left = number % width
            writer.write(canvas[:, :, left : left + width].contiguous(), number, 1)
    return path


def run(source: Path, seconds: int, *, model: str, scale: str) -> dict[str, Any]:
    """Upscales in a process of its own; returns its peak memory and speed."""
    command: Sequence[str] = [
        sys.executable,
        "-m",
        "cli.main",
        "upscale",
        str(source),
        str(source.with_suffix(".out.mp4")),
        *("--model", model, "--scale", scale, "--preset", "ultrafast", "--quiet"),
    ]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{shlex.join(command)} failed")
    num_frames = seconds * RATE
    wall = time.perf_counter() - start
    return {
        "seconds": seconds,
        "frames": num_frames,
        "peak_bytes": usage.ru_maxrss * 1024,
        "wall_seconds": round(wall, 1),
        "frames_per_second": round(num_frames / wall, 2),
    }


if __name__ == "__main__":
    main()
