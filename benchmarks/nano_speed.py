"""How much faster the one-step pipeline became on a CPU: `python -m benchmarks.nano_speed`.

Two processes, one with the code of an earlier commit and one with this one's, restore the same chunk in
turns, with that commit's dovetail-nano (dovetail-dit-nano has taken its place). Times are the least of a few
rounds; on a machine that others use, the processor's seconds say more than the clock's.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
BEFORE = "f12d728"
# What this code did before, switched on one at a time to see what leaving it is worth.
VARIANTS = ("", "separate_steps", "large_batches", "separate_steps,large_batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    # The other process has the earlier code first on its path, which need not have this.
    from benchmarks.results_file import write_results

    with tempfile.TemporaryDirectory() as folder:
        write_results("nano_speed", compare(Path(folder), arguments))


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs both processes in turns."""
    from benchmarks.earlier_commit import extract_commit

    before = extract_commit(BEFORE, folder / "before")
    torch.save(make_frames(arguments.frames, 180, 320), folder / "clip.pt")
    sides = {
        "before": start(before, folder, arguments.threads),
        "after": start(ROOT, folder, arguments.threads),
    }
    runs = [("before", ""), *(("after", variant) for variant in VARIANTS)]
    seconds: dict[tuple[str, str], list[dict[str, float]]] = {run: [] for run in runs}
    for side, variant in runs[:2]:  # what is made at the first call is not counted
        sides[side].send(variant)
        sides[side].recv()
    for _ in range(arguments.rounds):
        for side, variant in runs:
            sides[side].send(variant)
            seconds[side, variant].append(sides[side].recv())
    for connection in sides.values():
        connection.send(None)
    frames = [torch.load(folder / f"{name}.pt") for name in sides]
    best = {run: {key: min(r[key] for r in rounds) for key in rounds[0]} for run, rounds in seconds.items()}
    least = best["before", ""]
    return {
        "before": BEFORE,
        "frames": arguments.frames,
        "size": "320x180 -> 1280x720",
        "dtype": "float32",
        "threads": arguments.threads,
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "seconds": {" with ".join(filter(None, run)): values for run, values in best.items()},
        "speedup": {key: round(least[key] / best["after", ""][key], 3) for key in ("wall", "processor")},
        "worth": {
            variant: round(best["after", variant]["processor"] / best["after", ""]["processor"], 3)
            for variant in VARIANTS
            if variant
        },
        "largest_difference": float((frames[0] - frames[1]).abs().max()),
    }


def make_frames(num_frames: int, height: int, width: int) -> torch.Tensor:
    """(F, 3, H, W), uint8: shapes that move, with noise."""
    torch.manual_seed(0)
    t, y, x = torch.meshgrid(
        torch.arange(num_frames), torch.arange(height), torch.arange(width), indexing="ij"
    )
    waves = [torch.sin(x / 9 + t / 3 + k) * torch.cos(y / (7 + k) - t / 4) for k in range(3)]
    frames = torch.stack(waves, dim=1) * 90 + 128
    return (frames + 8 * torch.randn(frames.shape)).clamp(0, 255).to(torch.uint8)


def start(code: Path, folder: Path, threads: int) -> Connection:
    """A process with the code of a folder, which answers on a connection."""
    listener = Listener(str(folder / f"{code.name}.sock"), "AF_UNIX")
    spec = f"{folder}|{'before' if code.name == 'before' else 'after'}|{threads}|{listener.address}"
    subprocess.Popen([sys.executable, str(Path(__file__)), "--serve", spec], cwd=code, env=environment(code))
    return listener.accept()


def environment(code: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}


def serve(spec: str) -> None:
    """Restores the chunk whenever it is told to."""
    from pipelines.dove.pipeline import DovePipeline

    folder, name, threads, address = spec.split("|")
    torch.set_num_threads(int(threads))
    pipeline: Any = DovePipeline.from_checkpoint(f"{folder}/before/pipelines/checkpoints/dovetail-nano")
    clip = torch.load(f"{folder}/clip.pt")
    size = clip.shape[-2] * 4, clip.shape[-1] * 4
    connection = Client(address, "AF_UNIX")
    while (variant := connection.recv()) is not None:
        switch(pipeline, variant)
        used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        frames = torch.cat(list(restore(pipeline, clip, size)))
        wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        if not variant:
            torch.save(frames, f"{folder}/{name}.pt")
        connection.send({"wall": wall, "processor": processor})


def restore(pipeline: Any, clip: torch.Tensor, size: tuple[int, int]) -> Any:
    """One chunk through either version's interface, whole frames."""
    if hasattr(pipeline, "stream"):
        plan = importlib.import_module("pipelines.planning.diffusion").UpscalePlan()
        return pipeline.stream(clip, height=size[0], width=size[1], plan=plan)
    from pipelines.dove.options import DoveOptions
    from pipelines.planning.diffusion_plan import DiffusionPlan

    return pipeline.restore_chunk(clip, size, DoveOptions(), DiffusionPlan())


def switch(pipeline: Any, variant: str) -> None:
    """Switches off what a variant names, and everything else on."""
    if not hasattr(pipeline.restorer, "streamed"):
        return
    from pipelines.planning import slices

    pipeline.kept = getattr(pipeline, "kept", None) or pipeline.restorer.streamed
    pipeline.restorer.streamed = None if "separate_steps" in variant else pipeline.kept
    slices.BATCH_PIXELS = 2**31 if "large_batches" in variant else 2**17


if __name__ == "__main__":
    main()
