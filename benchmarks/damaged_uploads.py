"""Uploads damaged files of many kinds, thousands of them, and checks that each is refused or ends as a job.

    python -m benchmarks.damaged_uploads                   # 10,000, of a random seed that is printed
    python -m benchmarks.damaged_uploads --count 80 --seed 7

What may not happen: an answer of 500 and above, a refusal that is no problem document, a job that does not
end, one that fails for a reason nobody has chosen words for, a worker that dies, a file with more frames than
the accepted upload said.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fuzz_media import mutate
from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.results_file import write_results

_SUFFIXES = ("mp4", "mkv", "ts", "avi", "flv", "mov")
_SECONDS = 0.4
_FINAL = {"completed", "failed", "cancelled"}
UNWORDED = {"internal_error", "worker_crashed"}
_AT_ONCE = 8
_TELL_EACH = 500
_END_SECONDS = 600
# Whatever a header claims, a job may make as many frames as the undamaged clip has (10), and some more:
# containers tell lengths to a few frames.
_FRAMES_ALWAYS_ALLOWED = 40


@dataclass
class Report:
    """What became of damaged uploads.

    Attributes:
        seed: Of all damage; with the count it makes the same files again.
        count: Of uploads.
        statuses: Answers by HTTP status.
        refusals: By problem code.
        states: Final states of the accepted ones.
        errors: Of the failed ones, by code.
        most_frames: In a finished file.
        slowest_seconds: From a job's beginning to its end.
        faults: What may not happen, with the number of the upload.
        seconds: From the first upload to the last end.
    """

    seed: int
    count: int
    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    most_frames: int = 0
    slowest_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def upload_damaged(
    installation: Installation,
    folder: Path,
    *,
    count: int,
    seed: int,
    tell: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Uploads so many damaged files, and waits for what was accepted.

    Args:
        installation: Takes them.
        folder: For the files that are damaged.
        count: Of uploads.
        seed: Of the damage.
        tell: Gets the report as far as it is, now and then.
    """
    clips = [
        make_clip(folder / f"clip.{suffix}", seconds=_SECONDS, width=32, height=32).read_bytes()
        for suffix in _SUFFIXES
    ]
    report = Report(seed, count)
    workers = {process.pid for process in installation.processes("worker")}
    start = time.monotonic()
    with (
        httpx.Client(base_url=installation.url, timeout=120) as client,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):

        def run(number: int) -> tuple[int, httpx.Response, dict[str, Any] | None]:
            answer = client.post(
                "/v1/jobs",
                files={"file": (f"damaged{number}.mp4", damaged(clips, seed, number))},
                data={"model": "bicubic", "scale": "1"},
            )
            job = _ended(client, answer.json()["id"]) if answer.status_code == 202 else None
            return number, answer, job

        for number, answer, job in pool.map(run, range(count)):
            _note(report, number, answer, job)
            if (number + 1) % _TELL_EACH == 0:
                tell(report)
    report.seconds = round(time.monotonic() - start, 1)
    died = workers - {process.pid for process in installation.processes("worker")}
    report.faults += [f"worker {pid} died" for pid in sorted(died)]
    return report


def damaged(clips: list[bytes], seed: int, number: int) -> bytes:
    """The file of one upload."""
    dice = random.Random(f"{seed} {number}")
    return mutate(dice.choice(clips), dice)


def _ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + _END_SECONDS
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in _FINAL or time.monotonic() > deadline:
            return job
        time.sleep(0.1)


def _note(report: Report, number: int, answer: httpx.Response, job: dict[str, Any] | None) -> None:
    report.statuses[answer.status_code] += 1
    if job is None:
        if answer.status_code not in (415, 422) or "problem+json" not in answer.headers["content-type"]:
            report.faults.append(f"{number}: {answer.status_code} {answer.text[:200]}")
        else:
            report.refusals[answer.json()["code"]] += 1
        return
    report.states[job["status"]] += 1
    if job["status"] not in _FINAL:
        report.faults.append(f"{number}: still {job['status']} after {_END_SECONDS} s")
    if job["error"]:
        report.errors[job["error"]["code"]] += 1
        if job["error"]["code"] in UNWORDED:
            report.faults.append(f"{number}: {job['error']}")
    if job["started_at"] and job["completed_at"]:
        seconds = _timestamp(job["completed_at"]) - _timestamp(job["started_at"])
        report.slowest_seconds = max(report.slowest_seconds, round(seconds, 1))
    if job["output"]:
        num_frames = job["output"]["num_frames"]
        report.most_frames = max(report.most_frames, num_frames)
        if num_frames > max(_FRAMES_ALWAYS_ALLOWED, _accepted_frames(job["input"])):
            report.faults.append(f"{number}: {num_frames} frames of {job['input']}")


def _accepted_frames(found: dict[str, Any]) -> int:
    if found["num_frames"] is not None:
        return int(found["num_frames"])
    return math.ceil((found["duration_seconds"] or 0) * (found["frame_rate"] or 0))


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, help="default: a random one")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    environment = {"DOVETAIL_MODELS": '["bicubic"]', "DOVETAIL_SEGMENT_SECONDS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Installation(
            folder / "installation", num_workers=arguments.workers, environment=environment
        ) as installation:
            report = upload_damaged(
                installation,
                folder,
                count=arguments.count,
                seed=seed,
                tell=lambda so_far: print(json.dumps(vars(so_far)), flush=True),
            )
    write_results("damaged_uploads", vars(report))
    if report.faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
