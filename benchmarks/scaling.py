"""One long video on one worker and on eight: how much faster, and is the result the same?

    python -m benchmarks.scaling

The model is a stand-in that sleeps for each frame, as a GPU would keep its host waiting, so that eight
workers can be measured on a machine with fewer cores. Everything else is real: service, queue, decoding,
encoding, join.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import av

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.results_file import RESULTS, write_results
from dovetail_client import Dovetail


def run(folder: Path, clip: Path, *, num_workers: int, model: str, segment_seconds: float) -> dict[str, Any]:
    """Upscales a clip with so many workers.

    Returns:
        Seconds from the first attempt to the finished file, and what the file is.
    """
    environment = {
        "DOVETAIL_SEGMENT_SECONDS": str(segment_seconds),
        "DOVETAIL_ALLOW_STANDINS": "true",
        "DOVETAIL_MODELS": json.dumps([model]),
    }
    with (
        Installation(folder, num_workers=num_workers, environment=environment) as installation,
        Dovetail(installation.url) as client,
    ):
        # Not measured: whatever a process does the first time.
        for _ in range(num_workers):
            client.wait(client.submit(clip, model=model, duration_seconds=segment_seconds).id, timeout=600)
        job = client.wait(client.submit(clip, model=model).id, timeout=3600)
        assert job.started_at is not None
        assert job.completed_at is not None
        assert job.output is not None
        target = client.download(job.id, folder / "output.mp4")
    return {
        "num_workers": num_workers,
        "seconds": round((job.completed_at - job.started_at).total_seconds(), 2),
        "num_frames": job.output.num_frames,
        "sha256": job.output.sha256,
        "pts": frame_times(target),
    }


def frame_times(path: Path) -> list[float]:
    """Times of all video frames in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return sorted(float(p.pts * stream.time_base) for p in container.demux(stream) if p.pts is not None)


def main() -> int:
    """Runs both and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=80, help="length of the video")
    parser.add_argument("--sleep", type=float, default=0.2, help="of the stand-in, for each frame")
    parser.add_argument("--segment-seconds", type=float, default=2.5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    model = f"standin:sleep={arguments.sleep},scale=2"
    with tempfile.TemporaryDirectory(prefix="dovetail-scaling-") as name:
        clip = make_clip(Path(name) / "clip.mp4", seconds=arguments.seconds)
        runs = [
            run(
                Path(name) / str(count),
                clip,
                num_workers=count,
                model=model,
                segment_seconds=arguments.segment_seconds,
            )
            for count in (1, arguments.workers)
        ]
        source_times = frame_times(clip)
    one, many = runs
    speedup = one["seconds"] / many["seconds"]
    is_exact = one["sha256"] == many["sha256"] and all(
        abs(a - b) < 1e-6 for a, b in zip(many["pts"], source_times, strict=True)
    )
    values = {
        "model": model,
        "video_seconds": arguments.seconds,
        "segment_seconds": arguments.segment_seconds,
        "runs": [{name: value for name, value in item.items() if name != "pts"} for item in runs],
        "speedup": round(speedup, 2),
        "is_exact": is_exact,
    }
    write_results("scaling", values, folder=arguments.results)
    return 0 if is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
