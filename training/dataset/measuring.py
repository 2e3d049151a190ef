"""One pass over the frames of a file: what is measured of each, and what that says of a part of a scene."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.dataset.motion import (
    FlowMap,
    FlowMeter,
    find_moving,
    find_picture,
    peak_motion,
    shrink_for_flow,
)
from training.dataset.quality import Luma, PictureQuality, measure_quality
from training.dataset.records import Box, SceneMeasures
from training.dataset.scenes import PartSpan

STRIDE = 4
"""Every so many frames quality and motion are measured: neighbours hardly differ."""
_THUMBNAIL_STRIDE = 8 * STRIDE
_THUMBNAIL_WIDTH = 320
_JPEG_QUALITY = 85

# A repeated frame differs from the one before by coding alone, its neighbours by much more. So many are
# looked at to either side: 12 frames per second repeated for 60 change with every fifth.
_REPEATED = 0.1
_NEIGHBOURS = 3


@dataclass(frozen=True)
class FrameTime:
    """When a frame is shown, in ticks of the reader."""

    pts: int
    duration: int


@dataclass(frozen=True)
class Sample:
    """What was measured of every fourth frame. A few KB: an hour of film takes 100 MB."""

    quality: PictureQuality
    flow: FlowMap
    brightest_rows: Luma
    brightest_columns: Luma


class FilmMeter:
    """Takes the frames of a film one after another, and measures."""

    def __init__(self) -> None:
        self.times: list[FrameTime] = []
        self.size = (0, 0)
        """Height and width."""
        self._changes: list[float] = []
        self._samples: dict[int, Sample] = {}
        self._thumbnails: dict[int, bytes] = {}
        self._flow = FlowMeter()
        self._last: Luma | None = None

    def add(self, image: NDArray[np.uint8], time: FrameTime) -> None:
        """Takes the next frame, (H, W, 3) uint8 R'G'B'."""
        luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        last = self._last if self._last is not None else luma
        number = len(self.times)
        self._changes.append(float(cv2.absdiff(luma, last).mean()))
        if number % STRIDE == 1:
            self._samples[number] = self._sample(last, luma)
        if number % _THUMBNAIL_STRIDE == 0:
            self._thumbnails[number] = _thumbnail(image)
        self.times.append(time)
        self.size = (luma.shape[0], luma.shape[1])
        self._last = luma

    def _sample(self, before: Luma, luma: Luma) -> Sample:
        (small_before, scale), (small, _) = shrink_for_flow(before), shrink_for_flow(luma)
        flow = self._flow.measure(small_before, small) * np.float32(scale)
        return Sample(measure_quality(luma), flow, luma.max(axis=1), luma.max(axis=0))

    def measure(self, span: PartSpan, frame_ticks: float) -> SceneMeasures:
        """What a part with two samples at least is like.

        Args:
            span: Which.
            frame_ticks: Ticks that a frame nominally lasts.
        """
        samples = self._samples_of(span)
        mean_flow = _mean_flow(samples)
        qualities = [asdict(sample.quality) for sample in samples]
        durations = np.array([time.duration for time in self.times[span.begin : span.end - 1]])
        return SceneMeasures(
            **{name: _rounded(np.mean([quality[name] for quality in qualities])) for name in qualities[0]},
            uneven=_rounded((np.abs(durations - frame_ticks) > frame_ticks / 2).mean()),
            repeated=_rounded(share_repeated(np.array(self._changes[span.begin + 1 : span.end]))),
            motion=_rounded(mean_flow.mean()),
            peak_motion=_rounded(peak_motion(mean_flow)),
        )

    def moving(self, span: PartSpan, *, min_motion: float) -> Box | None:
        """Where a part moves by at least so many pixels per frame."""
        return find_moving(_mean_flow(self._samples_of(span)), self.size, min_motion=min_motion)

    def picture(self, span: PartSpan) -> Box:
        """A part's picture without black bars."""
        samples = self._samples_of(span)
        rows = np.max([sample.brightest_rows for sample in samples], axis=0)
        columns = np.max([sample.brightest_columns for sample in samples], axis=0)
        return find_picture((rows, columns))

    def thumbnail(self, span: PartSpan) -> bytes:
        """A JPEG of a frame near the middle of a part."""
        middle = (span.begin + span.end) // 2
        return self._thumbnails[min(self._thumbnails, key=lambda number: abs(number - middle))]

    def _samples_of(self, span: PartSpan) -> list[Sample]:
        # The flow of a sample is from the frame before.
        return [self._samples[n] for n in range(span.begin + 1, span.end) if n in self._samples]


def _mean_flow(samples: list[Sample]) -> FlowMap:
    return np.asarray(np.mean([sample.flow for sample in samples], axis=0), np.float32)


def share_repeated(changes: NDArray[np.float64]) -> float:
    """How many frames are the one before once more, judged by how much each changes. Where nothing moves for
    a while, none is."""
    padded = np.pad(changes, _NEIGHBOURS, mode="edge")
    nearby = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1).max(axis=1)
    return float((changes < _REPEATED * nearby).mean())


def _thumbnail(image: NDArray[np.uint8]) -> bytes:
    height = max(1, round(image.shape[0] * _THUMBNAIL_WIDTH / image.shape[1]))
    small = cv2.resize(image, (_THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return jpeg.tobytes()


def _rounded(value: float | np.floating) -> float:
    return float(f"{float(value):.4g}")
