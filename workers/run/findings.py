"""Means of what a model found in the parts of a video, weighted by their frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping


class MeanFindings:
    """Adds up `Model.findings` of chunks, or means of segments."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._num_frames = 0

    def add(self, findings: Mapping[str, float], num_frames: int) -> None:
        """Counts what was found in so many frames."""
        for name, value in findings.items():
            self._sums[name] += value * num_frames
        self._num_frames += num_frames

    def means(self) -> dict[str, float]:
        """The mean of each number over the frames so far, rounded for a report; {} without any."""
        return {name: round(value / self._num_frames, 3) for name, value in self._sums.items()}
