"""`dovetail bench`: time per stage, memory, and the ratio to the plain path in the same run."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import upscale_options as options
from cli.errors import UsageError, reported_errors
from cli.store_folder import store_folder

if TYPE_CHECKING:
    from workers.bench import BenchReport, PathResult
    from workers.run.timing import TimedStage

STAGES: tuple[TimedStage, ...] = ("read", "model", "encode", "transformer", "decode", "write", "join")
PARTS_OF_MODEL: tuple[TimedStage, ...] = ("encode", "transformer", "decode")


def bench(
    video: Annotated[
        Path | None, typer.Argument(help="A video. Default: a synthetic clip.", show_default=False)
    ] = None,
    model: options.ModelName = None,
    scale: options.Scale = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attention: options.Attention = "auto",
    quantize: options.Quantize = "auto",
    use_compile: options.UseCompile = False,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    chunk: options.Chunk = None,
    chunk_overlap: options.ChunkOverlap = None,
    frames: Annotated[int, typer.Option(help="Frames of the synthetic clip.")] = 48,
    size: Annotated[str, typer.Option(help="Size of the synthetic clip.", metavar="WxH")] = "320x180",
    duration: Annotated[float, typer.Option(help="Seconds of a given video.")] = 2.0,
    repeat: Annotated[int, typer.Option(help="Runs of each path; the fastest counts.", min=1)] = 2,
    use_plain: Annotated[bool, typer.Option("--plain/--no-plain", help="Run the plain path too.")] = True,
    use_json: options.UseJson = False,
) -> None:
    """Measure frames per second, time per stage and peak memory.

    The plain path reads, restores with the reference's options, and writes one after the other. It holds the
    whole clip in memory.
    """
    with reported_errors(as_json=use_json):
        width, height = _parse_size(size)
        if frames < 1 or duration <= 0:
            raise UsageError("a clip has at least one frame")

        from media.sizes import SizeRequest
        from pipelines.dove.options import DoveOptions
        from pipelines.freed_memory import keep_freed_memory
        from pipelines.loaders import load_model
        from workers.bench import make_source, run_benchmark
        from workers.run.options import UpscaleOptions

        keep_freed_memory()
        load = partial(
            load_model,
            model,
            device=device,
            dtype=dtype,
            attention_backend=attention,
            models_dir=store_folder(),
        )
        loaded = load(quantize=quantize, use_compile=use_compile)
        plain = load(options=DoveOptions.reference(), use_lossless_savings=False) if use_plain else None
        wanted = UpscaleOptions(
            size=SizeRequest(scale=scale),
            tile=tile,
            overlap=overlap,
            chunk=chunk,
            chunk_overlap=chunk_overlap,
            duration_seconds=None if video is None else Fraction(duration),
        )
        with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as folder:
            source = video or make_source(
                Path(folder) / "source.mp4", num_frames=frames, width=width, height=height
            )
            report = run_benchmark(loaded, source, options=wanted, plain=plain, num_repeats=repeat)
    typer.echo(json.dumps(report.to_json(), indent=2) if use_json else "\n".join(describe(report)))


def describe(report: BenchReport) -> list[str]:
    """A table for people."""
    ours, plain = report.ours, report.plain
    columns: list[PathResult] = [ours] if plain is None else [ours, plain]
    lines = [
        f"{report.model['name']} on {report.torch['device']}, {report.model['dtype']}, "
        f"{report.num_threads} threads, torch {report.torch['version']}",
        f"{report.num_frames} frames, {report.size[0]}x{report.size[1]} to "
        f"{report.out_size[0]}x{report.out_size[1]}",
        "",
        f"{'':24}" + "".join(f"{name:>12}" for name in ("dovetail", "plain path")[: len(columns)]),
    ]
    rows = [
        (
            f"{'  ' if stage in PARTS_OF_MODEL else ''}{stage}, seconds",
            [c.stage_seconds.get(stage) for c in columns],
        )
        for stage in STAGES
    ]
    rows += [
        ("in all, seconds", [c.seconds for c in columns]),
        ("frames per second", [c.frames_per_second for c in columns]),
        ("peak memory, MB", [_megabytes(c.peak_host_bytes) for c in columns]),
        ("peak GPU memory, MB", [_megabytes(c.peak_device_bytes) for c in columns]),
    ]
    for name, values in rows:
        if any(value is not None for value in values):
            lines.append(f"{name:24}" + "".join(f"{'-' if v is None else f'{v:.2f}':>12}" for v in values))
    if report.speedup is not None:
        lines += ["", f"{report.speedup:.2f} times the frames per second of the plain path"]
    return lines


def _megabytes(num_bytes: int | None) -> float | None:
    return None if num_bytes is None else num_bytes / 1e6


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 16):
        raise UsageError(f"{text!r} is not a size; write 320x180")
    return int(width), int(height)
