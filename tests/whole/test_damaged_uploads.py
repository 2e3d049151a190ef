"""Damaged uploads: each is refused with a typed problem or becomes a job that ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.damaged_uploads import upload_damaged
from benchmarks.installation import Installation
from tests.thorough import sized

COUNT = sized(1000, brief=40)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damaged_uploads_give_typed_errors_and_stick_nowhere(
    installation: Installation, tmp_path: Path
) -> None:
    report = upload_damaged(installation, tmp_path, count=COUNT, seed=7)
    assert report.faults == []
    # Both ways were taken often enough to mean something.
    assert report.statuses[202] > COUNT // 20
    assert report.states["completed"] > COUNT // 20
    assert sum(report.refusals.values()) > COUNT // 20
