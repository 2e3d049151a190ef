"""One installation for all tests that only use it; those that kill things start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from tests.forked_python import real_programs


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`dovetail serve` with one worker, started as people start it."""
    folder = tmp_path_factory.mktemp("installation")
    # bicubic by default: what is tested here is not the model.
    environment = {
        "DOVETAIL_SEGMENT_SECONDS": "1",
        "DOVETAIL_MODELS": '["bicubic", "lanczos", "dovetail-dit-nano"]',
    }
    with real_programs(), Installation(folder, num_workers=1, environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=3)
