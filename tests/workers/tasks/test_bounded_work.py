"""No input costs more than the length that was accepted: times that lie far away make no task work on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from jobs.records import JobState
from tests.media.breaks import remap
from tests.media.sources import Sound, Text, make_source
from tests.workers.tasks.farm import Farm

SECONDS, HOUR = 3, 3600
VIDEO, SOUND, SUBTITLES = 0, 1, 2


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize(
    "far",
    [{SOUND}, {SUBTITLES}, {SOUND, SUBTITLES}, {VIDEO}, {VIDEO, SOUND, SUBTITLES}],
    ids=["sound", "subtitles", "both", "picture", "everything"],
)
def test_what_lies_an_hour_away_is_neither_made_nor_waited_for(
    farm: Farm, tmp_path: Path, far: set[int], container: str
) -> None:
    whole = make_source(
        tmp_path / "whole.mkv",
        seconds=SECONDS,
        sounds=[Sound("aac")],
        texts=[Text("subrip", [(0, 400, "near"), (2400, 2800, "far")])],
    )

    def moved(second: Fraction, index: int) -> Fraction:
        return second + HOUR if index in far and second > 2 else second

    with farm.worker():
        job = farm.wait(farm.submit(remap(whole, tmp_path / "far.mkv", moved), container=container))
    assert job.state is JobState.COMPLETED, job.error
    assert job.total_frames <= 25 * SECONDS + 1
    times: dict[str, list[float]] = {"video": [], "audio": [], "subtitle": []}
    with av.open(str(farm.output(job, tmp_path))) as output:
        for packet in output.demux():
            if packet.pts is not None and packet.size:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
    assert max(times["video"] + times["audio"]) < SECONDS + 0.2
    # An hour of silence would be 169,000 packets.
    assert len(times["audio"]) < 48 * SECONDS * 1.2
    stored = farm.played(job).sound
    assert stored is not None
    assert stored.size_bytes < 200_000
