"""Encoders leave the process's scheduling as it was."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from media import ColorTags, EncodeOptions, SegmentWriter, VideoFormat
from media._encoders import encoder_works


def policies() -> set[int]:
    return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="scheduling is read from Linux's /proc")
@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9"])
def test_encoding_leaves_no_thread_in_real_time_scheduling(codec: str, tmp_path: Path) -> None:
    before = policies()
    encoder_works.cache_clear()
    video_format = VideoFormat(
        width=64, height=64, time_base=Fraction(1, 25), rate=Fraction(25),
        color=ColorTags(matrix=1, primaries=1, transfer=1, full_range=False),
    )  # fmt: skip
    writer = SegmentWriter(tmp_path / "segment.mp4", video_format, EncodeOptions(codec=codec))
    for pts in range(3):
        writer.write(torch.full((3, 64, 64), 0.5), pts, 1)
    assert policies() == before
    writer.close()
    assert policies() == before
