"""Nothing is lost and nothing is done twice when processes die: `benchmarks/chaos.py` in a short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import run_chaos
from tests.thorough import sized


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_jobs_complete_with_the_same_bytes_while_processes_are_killed(tmp_path: Path) -> None:
    report = run_chaos(
        tmp_path,
        num_jobs=sized(8, brief=3),
        num_faults=sized(10, brief=4),
        num_workers=2,
        pause=2.0,
        model="standin:sleep=0.02,scale=2",
        seed=1,
        num_clips=2,
        clip_seconds=4.0,
    )
    assert sum(report.faults.values()) >= 3
    assert report.is_good, report
