"""A checkpoint of CogVideoX1.5-5B's size, and one short clip through it on the CPU.

    python -m benchmarks.real_size FOLDER

Makes the folder where it is not there yet (11 GB), runs what `dovetail upscale --dtype bfloat16` runs, and
writes `results/real_size.json`. 15 GB of memory must be free.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.real_size.folder import write_checkpoint
from benchmarks.real_size.layout import Layout, add_arguments
from benchmarks.real_size.tracking import ActivationTracker
from benchmarks.results_file import RESULTS, write_results
from media.sizes import SizeRequest
from pipelines.devices import choose_dtype
from pipelines.dove.model import DoveModel
from pipelines.loaders import load_model
from workers.bench import make_source
from workers.run.options import UpscaleOptions
from workers.run.upscaler import upscale_file


def main() -> None:
    """Makes, runs, writes down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    add_arguments(parser)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--make-only", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    values: dict[str, Any] = {}
    if not (arguments.folder / "model_index.json").exists():
        start = time.perf_counter()
        values["num_parameters"] = write_checkpoint(arguments.folder, Layout.from_arguments(arguments))
        values["seconds_to_make"] = round(time.perf_counter() - start, 1)
        print(values, flush=True)
    if arguments.make_only:
        return
    width, height = (int(side) for side in arguments.size.split("x"))
    values |= run(arguments.folder, num_frames=arguments.frames, width=width, height=height)
    write_results("real_size", values, folder=arguments.results)


def run(folder: Path, *, num_frames: int, width: int, height: int) -> dict[str, Any]:
    """Upscales a clip by four.

    Returns:
        Times, peaks, and what the planner had estimated.
    """
    start = time.perf_counter()
    model = load_model(str(folder), device="cpu", dtype="bfloat16")
    assert isinstance(model, DoveModel)
    seconds_to_load = time.perf_counter() - start
    loaded_bytes = psutil.Process().memory_info().rss
    modules = [model.pipeline.vae, model.pipeline.transformer]
    weights = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    has_bfloat16 = choose_dtype("auto", model.device) == torch.bfloat16
    tracker = ActivationTracker(use_float32_products=not has_bfloat16)
    is_finite = _watch(model)
    with tempfile.TemporaryDirectory(prefix="dovetail-real-size-") as name:
        source = make_source(Path(name) / "in.mp4", num_frames=num_frames, width=width, height=height)
        options = UpscaleOptions(size=SizeRequest(scale=Fraction(4)))
        with tracker:
            report = upscale_file(source, Path(name) / "out.mp4", model=model, options=options)
    assert report.output is not None
    assert report.plan is not None
    return {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "load_average": [round(value, 1) for value in psutil.getloadavg()],
        "weight_files": sorted(
            path.relative_to(folder).as_posix() for path in folder.glob("*/*.safetensors")
        ),
        "dtype": str(model.dtype),
        "weight_dtypes": sorted({str(tensor.dtype) for tensor in weights}),
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in weights),
        "size": [width, height],
        "out_size": [report.output.width, report.output.height],
        "num_frames": report.output.num_frames,
        "is_finite": all(is_finite),
        "plan": report.plan.describe(),
        "attention_kernels": dict(tracker.attention_kernels),
        "has_products_in_float32": not has_bfloat16,
        "seconds_to_load": round(seconds_to_load, 1),
        "seconds": round(report.seconds, 1),
        "stage_seconds": {name: round(value, 2) for name, value in report.stage_seconds.items()},
        "estimated_bytes": report.plan.estimated_bytes,
        "tracked_peak_bytes": tracker.peak.num_bytes,
        "loaded_rss_bytes": loaded_bytes,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "warnings": report.warnings,
    }


def _watch(model: DoveModel) -> list[bool]:
    """Notes for each batch of frames whether its numbers are numbers."""
    is_finite: list[bool] = []
    restore = model.restore

    def watched(*args: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        for frames in restore(*args, **kwargs):
            is_finite.append(bool(frames.isfinite().all()))
            yield frames

    # This one instance is looked at, whatever class the loader made it of.
    model.restore = watched  # type: ignore[method-assign]
    return is_finite


if __name__ == "__main__":
    main()
