"""Nothing is lost and nothing is done twice when processes die: `benchmarks/chaos.py` and
`benchmarks/replicas.py` in a short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import run_chaos
from benchmarks.replicas import run_replicas
from tests.s3_server import s3_server, s3_url
from tests.thorough import sized

__all__ = ["s3_server", "s3_url"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_jobs_complete_with_the_same_bytes_while_processes_are_killed(tmp_path: Path) -> None:
    report = run_chaos(
        tmp_path,
        num_jobs=sized(8, brief=3),
        num_faults=sized(10, brief=4),
        num_workers=2,
        # Several faults before even a fast machine has done all.
        pause=1.2,
        model="standin:sleep=0.05,scale=2",
        seed=1,
        num_clips=2,
        clip_seconds=4.0,
    )
    assert sum(report.faults.values()) >= 3
    assert report.is_good, report


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_either_of_two_machines_takes_any_request_while_their_apis_are_killed(
    tmp_path: Path, s3_url: str
) -> None:
    report = run_replicas(
        tmp_path,
        storage_url=s3_url,
        num_jobs=sized(8, brief=3),
        num_kills=sized(6, brief=2),
        pause=1.5,
        model="standin:sleep=0.03,scale=2",
        num_clips=2,
        clip_seconds=6.0,
    )
    assert min(report.num_kills) >= 1
    assert min(report.num_chunks) >= 3
    assert report.is_good, report
