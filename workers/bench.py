"""How fast a model runs here, beside the plain path in the same process.

The plain path is what a script does: read all frames, run the reference's options without this package's
savings, write all frames, one after the other. Two numbers from different machines or days say little; a
ratio from one run does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from media import (
    ColorTags,
    EncodeOptions,
    SegmentWriter,
    VideoFormat,
    VideoReader,
    join_segments,
    probe,
)
from media.sizes import target_size
from pipelines.clips import restore_clip
from pipelines.model import Model
from workers.run.options import UpscaleOptions
from workers.run.report import REPORT_VERSION, peak_device_bytes
from workers.run.timing import StageClock, TimedStage
from workers.run.upscaler import upscale_file
from workers.values import to_json_value

RATE = Fraction(24)
# SDR BT.709, which every path reads and writes without conversion.
COLOR = ColorTags(1, 1, 1, full_range=False)


@dataclass(frozen=True)
class PathResult:
    """Measurements of one way to upscale.

    Attributes:
        seconds: From the first read to the finished file.
        frames_per_second: Frames by `seconds`.
        stage_seconds: Time by stage; in the plain path they follow one another and add up.
        peak_host_bytes: Largest resident memory during the run; None where the system does not tell.
        peak_device_bytes: Largest memory on the GPU during the run; None on the CPU.
    """

    seconds: float
    frames_per_second: float
    stage_seconds: dict[TimedStage, float]
    peak_host_bytes: int | None
    peak_device_bytes: int | None


@dataclass(frozen=True)
class BenchReport:
    """Both ways on the same clip.

    Attributes:
        model: Name, device and dtype.
        torch: Version of torch and the name of the device.
        num_frames: Of the clip.
        size: Width and height of the source.
        out_size: Width and height of the output.
        num_threads: Of torch.
        ours: `upscale_file`.
        plain: The plain path; None if not wanted.
        speedup: Frames per second of ours by those of the plain path.
    """

    model: dict[str, str]
    torch: dict[str, str]
    num_frames: int
    size: tuple[int, int]
    out_size: tuple[int, int]
    num_threads: int
    ours: PathResult
    plain: PathResult | None
    speedup: float | None
    version: int = field(default=REPORT_VERSION)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        values: dict[str, Any] = to_json_value(self)
        return values


def run_benchmark(
    model: Model, source: Path, *, options: UpscaleOptions, plain: Model | None, num_repeats: int = 1
) -> BenchReport:
    """Measures both ways in turns, and takes the fastest run of each: what else the machine does only slows
    down.

    Args:
        model: The model.
        source: A video.
        options: As for `upscale_file`; the duration should be short, for the plain path holds the whole clip.
        plain: The model with the reference's options and without savings, for the plain path; None leaves it
            out.
        num_repeats: Runs of each.

    Raises:
        UnsupportedSizeError: If the plain path cannot do the size; before any work.
    """
    if plain is not None:
        _check_plain(plain, source, options)
    ours: list[PathResult] = []
    others: list[PathResult] = []
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as name:
        folder = Path(name)
        # The first chunk pays for kernels, allocations and file caches.
        upscale_file(source, folder / "warm.mp4", model=model, options=options)
        for _ in range(num_repeats):
            result, num_frames, out_size = _measure_ours(model, source, folder, options)
            ours.append(result)
            if plain is not None:
                others.append(_measure_plain(plain, source, folder, options))
    best = min(ours, key=lambda result: result.seconds)
    best_plain = min(others, key=lambda result: result.seconds) if others else None
    video = probe(source).video
    device = (
        torch.cuda.get_device_name(model.device)
        if model.device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return BenchReport(
        model={"name": model.name, **model.identity()},
        torch={"version": torch.__version__, "device": device},
        num_frames=num_frames,
        size=(video.width, video.height),
        out_size=out_size,
        num_threads=torch.get_num_threads(),
        ours=best,
        plain=best_plain,
        speedup=None if best_plain is None else best.frames_per_second / best_plain.frames_per_second,
    )


def _check_plain(plain: Model, source: Path, options: UpscaleOptions) -> None:
    with VideoReader(probe(source)) as reader:
        size = reader.height, reader.width
    target = target_size(options.size, width=size[1], height=size[0], default_scale=plain.card.scale)
    plain.check_size(size, (target.height, target.width))


def make_source(path: Path, *, num_frames: int, width: int, height: int) -> Path:
    """Writes a clip of blurred noise that moves: as hard to encode as film, and the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, height // 4 + 2, (width + num_frames) // 4 + 2, generator=generator)
    canvas = torch.nn.functional.interpolate(noise, scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    video_format = VideoFormat(width=width, height=height, time_base=1 / RATE, rate=RATE, color=COLOR)
    with SegmentWriter(path, video_format, EncodeOptions(preset="ultrafast", crf=10)) as writer:
        for number in range(num_frames):
            writer.write(canvas[:, :height, number : number + width].contiguous(), number, 1)
    return path


def _measure_ours(
    model: Model, source: Path, folder: Path, options: UpscaleOptions
) -> tuple[PathResult, int, tuple[int, int]]:
    with _peaks(model.device) as peaks:
        report = upscale_file(source, folder / "ours.mp4", model=model, options=options, existing="overwrite")
    assert report.output is not None
    stages = report.stage_seconds
    if model.device.type == "cuda":
        # True times of a GPU's stages cost the overlap between them, so they come from a run of their own.
        clock = StageClock(synchronize=model.device)
        upscale_file(
            source, folder / "stages.mp4", model=model, options=options, existing="overwrite", clock=clock
        )
        stages = clock.seconds
    num_frames = report.output.num_frames
    result = PathResult(report.seconds, num_frames / report.seconds, stages, *peaks())
    return result, num_frames, (report.output.width, report.output.height)


def _measure_plain(model: Model, source: Path, folder: Path, options: UpscaleOptions) -> PathResult:
    clock = StageClock(synchronize=model.device)
    with _peaks(model.device) as peaks:
        start = time.perf_counter()
        num_frames = _run_plain(model, source, folder, options, clock)
        seconds = time.perf_counter() - start
    return PathResult(seconds, num_frames / seconds, clock.seconds, *peaks())


@torch.no_grad()
def _run_plain(model: Model, source: Path, folder: Path, options: UpscaleOptions, clock: StageClock) -> int:
    """Reads everything, restores everything, writes everything."""
    info = probe(source)
    with VideoReader(
        info, start_seconds=options.start_seconds, duration_seconds=options.duration_seconds
    ) as reader:
        frames = list(clock.iterate("read", reader.frames()))
    target = target_size(
        options.size, width=reader.width, height=reader.height, default_scale=model.card.scale
    )
    clip = torch.stack([frame.image for frame in frames]).to(model.device)
    with clock.measure("model"), model.timed(clock):
        restored = _restore_plain(model, clip, target.height, target.width, options)
    video_format = VideoFormat(
        width=target.width,
        height=target.height,
        time_base=reader.time_base,
        rate=reader.rate,
        color=reader.color,
        bit_depth=info.video.bit_depth,
    )
    with (
        clock.measure("write"),
        SegmentWriter(folder / "plain-segment.mp4", video_format, options.encode) as writer,
    ):
        for frame, image in zip(frames, restored, strict=True):
            writer.write(image, frame.pts, frame.duration)
    with clock.measure("join"):
        join_segments([folder / "plain-segment.mp4"], folder / "plain.mp4", source=info)
    return len(frames)


def _restore_plain(model: Model, clip: Tensor, height: int, width: int, options: UpscaleOptions) -> Tensor:
    # The same chunks and tiles as ours: what the plain path lacks is not what it is compared for.
    plan = model.plan(
        num_frames=clip.shape[0],
        size=(clip.shape[-2], clip.shape[-1]),
        out_size=(height, width),
        reserved_bytes=0,
        tile=options.tile,
        overlap=options.overlap,
        chunk=options.chunk,
        chunk_overlap=options.chunk_overlap,
    )
    generator = torch.Generator(device=model.device).manual_seed(options.seed)
    return restore_clip(model, clip, (height, width), plan=plan, generator=generator)


@contextmanager
def _peaks(device: torch.device) -> Iterator[Any]:
    """Measures peak memory of a block: yields a function that tells (host, device) afterwards."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    is_reset = _reset_host_peak()
    yield lambda: (_host_peak() if is_reset else None, peak_device_bytes(device))


def _reset_host_peak() -> bool:
    """Sets Linux's high-water mark of this process back to what it uses now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _host_peak() -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
