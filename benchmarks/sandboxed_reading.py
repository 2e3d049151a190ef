"""What the sandbox costs: probing and reading in a confined process against the same in this one.

    python -m benchmarks.sandboxed_reading
    python -m benchmarks.sandboxed_reading --size 3840x2160 --frames 60

Both ways of reading take turns over the same file, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from benchmarks.results_file import RESULTS, write_results
from media import ColorTags, EncodeOptions, SegmentWriter, VideoFormat, VideoReader, probe
from media.sandbox import READ_MODULES, Sandbox, SandboxedReader, sandboxed_probe


def main() -> None:
    """Measures and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    torch.set_num_threads(1)  # as in the sandbox; more threads than free cores wait for each other
    with tempfile.TemporaryDirectory(prefix="dovetail-sandbox-") as name:
        source = make_video(Path(name) / "source.mp4", arguments.frames, width=width, height=height)
        report: dict[str, Any] = {
            "size": arguments.size,
            "frames": arguments.frames,
            "probe_ms": measure_probing(source),
            "frames_per_second": measure_reading(source, rounds=arguments.rounds),
        }
    rates = report["frames_per_second"]
    report["ratio"] = rates["sandboxed"] / rates["plain"]
    write_results("sandboxed_reading", report, folder=arguments.results)


def make_video(path: Path, num_frames: int, *, width: int, height: int) -> Path:
    """A soft picture that slides, with noise."""
    generator = torch.Generator().manual_seed(0)
    canvas = torch.rand(1, 3, height // 8, width // 4, generator=generator)
    canvas = torch.nn.functional.interpolate(canvas, (height, 2 * width), mode="bicubic").clamp_(0, 1)[0]
    video_format = VideoFormat(
        width=width,
        height=height,
        time_base=Fraction(1, 24),
        rate=Fraction(24),
        color=ColorTags(1, 1, 1, full_range=False),
    )
    with SegmentWriter(path, video_format, EncodeOptions(preset="ultrafast")) as writer:
        for number in range(num_frames):
            shift = 4 * number % width
            writer.write(canvas[:, :, shift : shift + width].contiguous(), number, 1)
        writer.close()
    return path


def measure_probing(source: Path) -> dict[str, float]:
    """Milliseconds: the first call, which starts the fork server; later ones; and without a sandbox."""
    with Sandbox() as sandbox:
        first = timed(lambda: sandboxed_probe(source, sandbox=sandbox))
        warm = statistics.median(timed(lambda: sandboxed_probe(source, sandbox=sandbox)) for _ in range(20))
    plain = statistics.median(timed(lambda: probe(source)) for _ in range(20))
    return {"first": 1000 * first, "warm": 1000 * warm, "plain": 1000 * plain}


def measure_reading(source: Path, *, rounds: int) -> dict[str, float]:
    """Median frames per second of both ways, and seconds until the first frame of the sandboxed one."""
    info = probe(source)
    rates: dict[str, list[float]] = {"plain": [], "sandboxed": []}
    first_frames: list[float] = []
    with Sandbox(preload=READ_MODULES) as sandbox:
        sandboxed_probe(source, sandbox=sandbox)  # starts the fork server
        for _ in range(rounds):
            with VideoReader(info, num_threads=1) as reader:
                rates["plain"].append(rate_of(reader))
            with SandboxedReader(info, num_threads=1, sandbox=sandbox) as reader_in_sandbox:
                first_frames.append(timed(lambda r=reader_in_sandbox: next(r.frames())))
            with SandboxedReader(info, num_threads=1, sandbox=sandbox) as reader_in_sandbox:
                rates["sandboxed"].append(rate_of(reader_in_sandbox))
    return {name: statistics.median(values) for name, values in rates.items()} | {
        "sandboxed_first_frame_seconds": statistics.median(first_frames)
    }


def rate_of(reader: VideoReader | SandboxedReader) -> float:
    """Frames per second of reading all."""
    began = time.perf_counter()
    count = sum(1 for _ in reader.frames())
    return count / (time.perf_counter() - began)


def timed(function: Any) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
