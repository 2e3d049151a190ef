"""Pictures of other sizes fitted into one: each keeps its shape, with black beside or above and below it."""

from fractions import Fraction
from typing import NamedTuple

import torch
from av.video.frame import VideoFrame
from torch import Tensor

from media._yuv_to_rgb import FrameToRgb
from media.info import PictureShape, VideoStreamInfo


class Box(NamedTuple):
    """Where a picture lies in the frame, in pixels."""

    left: int
    top: int
    width: int
    height: int


def fit(shape: PictureShape, into: PictureShape) -> Box:
    """The largest box in the middle of `into` that shows a picture in its own shape."""
    stretch = shape.sample_aspect_ratio / into.sample_aspect_ratio
    shown_width, shown_height = shape.width * stretch, Fraction(shape.height)
    scale = min(into.width / shown_width, into.height / shown_height)
    width = min(into.width, max(1, round(shown_width * scale)))
    height = min(into.height, max(1, round(shown_height * scale)))
    return Box((into.width - width) // 2, (into.height - height) // 2, width, height)


class FittingConverter:
    """`FrameToRgb` for a stream whose pictures may change their size. Not thread-safe.

    Args:
        video: The stream; its size is that of the images.
        keep_alpha: As for `FrameToRgb`. What is beside a fitted picture is transparent then.
    """

    def __init__(self, video: VideoStreamInfo, *, keep_alpha: bool = False) -> None:
        self._into = PictureShape(
            width=video.width, height=video.height, sample_aspect_ratio=video.sample_aspect_ratio
        )
        self._ratios = {(shape.width, shape.height): shape.sample_aspect_ratio for shape in video.shapes}
        self._codec, self._crop, self._alpha = video.codec, video.crop, video.alpha
        self._keep_alpha = keep_alpha
        self._stored_size = video.width, video.height
        if video.crop is not None:
            self._stored_size = (
                video.width + video.crop.left + video.crop.right,
                video.height + video.crop.top + video.crop.bottom,
            )
        self._converters: dict[tuple[int, int], FrameToRgb] = {}
        self.has_met_transparency = False
        """Whether any pixel so far let the black behind it through."""

    def expects(self, frame: VideoFrame) -> bool:
        """Whether a frame has the size, or one of the sizes, that the stream is known for."""
        size = frame.width, frame.height
        return size == self._stored_size or size in self._ratios

    def convert(self, frame: VideoFrame, *, out: Tensor | None = None) -> Tensor:
        """As `FrameToRgb.convert`."""
        into = self._into
        if self._crop is not None and (frame.width, frame.height) == self._stored_size:
            whole = self._convert(frame, Box(0, 0, *self._stored_size), None)
            top, left = self._crop.top, self._crop.left
            cropped = whole[:, top : top + into.height, left : left + into.width]
            return cropped.contiguous() if out is None else out.copy_(cropped)
        if (frame.width, frame.height) == (into.width, into.height):
            return self._convert(frame, Box(0, 0, into.width, into.height), out)
        ratio = self._ratios.get((frame.width, frame.height), into.sample_aspect_ratio)
        shape = PictureShape(width=frame.width, height=frame.height, sample_aspect_ratio=ratio)
        box = fit(shape, into)
        if (box.width, box.height) == (into.width, into.height):
            return self._convert(frame, box, out)
        picture = self._convert(frame, box, None)
        image = torch.empty(len(picture), into.height, into.width) if out is None else out
        image.zero_()
        image[:, box.top : box.top + box.height, box.left : box.left + box.width] = picture
        return image

    def _convert(self, frame: VideoFrame, box: Box, out: Tensor | None) -> Tensor:
        converter = self._converters.get((box.width, box.height))
        if converter is None:
            converter = FrameToRgb(
                box.width, box.height, codec=self._codec, alpha=self._alpha, keep_alpha=self._keep_alpha
            )
            self._converters[box.width, box.height] = converter
        image = converter.convert(frame, out=out)
        self.has_met_transparency |= converter.has_met_transparency
        return image
