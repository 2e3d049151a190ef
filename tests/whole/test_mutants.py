"""Damaged uploads: each is refused with a typed problem or becomes a job that ends."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.fuzz_media import mutate
from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from tests.thorough import sized

NUM_MUTANTS = sized(1000, brief=80)
SEED = 7
FINAL = {"completed", "failed", "cancelled"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damaged_uploads_give_typed_errors_and_stick_nowhere(
    installation: Installation, tmp_path: Path
) -> None:
    seeds = [
        make_clip(tmp_path / f"{suffix}.{suffix}", seconds=0.4, width=32, height=32).read_bytes()
        for suffix in ("mp4", "mkv", "ts", "avi", "flv", "mov")
    ]
    dice = random.Random(SEED)
    worker = {process.pid for process in installation.processes("worker")}
    statuses: Counter[int] = Counter()
    codes: Counter[str] = Counter()
    jobs: list[str] = []
    with httpx.Client(base_url=installation.url, timeout=60) as client:
        for number in range(NUM_MUTANTS):
            content = mutate(dice.choice(seeds), dice)
            answer = client.post(
                "/v1/jobs",
                files={"file": (f"mutant{number}.mp4", content)},
                data={"model": "bicubic", "scale": "1"},
            )
            statuses[answer.status_code] += 1
            if answer.status_code == 202:
                jobs.append(answer.json()["id"])
            else:
                assert answer.headers["content-type"] == "application/problem+json"
                codes[answer.json()["code"]] += 1
        ends = [wait_for_end(client, job_id) for job_id in jobs]
    assert not [status for status in statuses if status >= 500], statuses
    assert set(statuses) <= {202, 415, 422}, statuses
    # Both ways were taken often enough to mean something.
    assert statuses[202] > NUM_MUTANTS // 20
    assert sum(codes.values()) > NUM_MUTANTS // 20
    errors = Counter(job["error"]["code"] for job in ends if job["status"] == "failed")
    assert "internal_error" not in errors, errors
    assert "worker_crashed" not in errors, errors
    assert {process.pid for process in installation.processes("worker")} == worker
    assert all(psutil.pid_exists(pid) for pid in worker)


def wait_for_end(client: httpx.Client, job_id: str) -> dict[str, dict[str, str]]:
    """The job when it has ended."""
    deadline = time.monotonic() + 300
    while True:
        job: dict[str, dict[str, str]] = client.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in FINAL:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
