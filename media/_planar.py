"""Decoded frames in planes that can be read one by one: libswscale's part of the way to R'G'B'. No torch.

libswscale only brings chroma to full resolution here: into `yuv444p16le`, where a sample is the source's code
shifted up, exactly. Letting it make R'G'B' costs 1.3 levels on average (its fast path takes the nearest
chroma sample), and its outputs of more than 8 bits put white at 0.996.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

_CHROMA_FILTER = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_FULL_RANGE = 2
_LIMITED_RANGE = 1

# Decoders whose grey pictures are limited range unless tagged; for the others (PNG, FFV1, ...) grey means
# 0...max.
_LIMITED_GRAY_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "vvc"})

# White as libswscale writes it into 8-bit planes, by the bits that a screen format has for a channel: it
# shifts codes up and leaves zeros behind them (of 3 bits it makes steps of 36), so white would be grey.
_COARSE_WHITE = {1: 255.0, 2: 255.0, 3: 252.0, 4: 240.0, 5: 248.0, 6: 252.0, 7: 254.0}


class AlphaPlane(NamedTuple):
    """The opacity of a frame."""

    frame: VideoFrame
    plane: int
    """Its position among the frame's planes."""
    peak: float
    """The sample that means opaque."""


class Planar(NamedTuple):
    """A frame ready to be read plane by plane."""

    kind: Literal["rgb", "gray", "yuv"]
    frame: VideoFrame
    """Planes G, B, R; or luma; or Y, U, V as `yuv444p16le`."""
    source: VideoFrame
    """The frame as decoded, at the wanted size: its tags and its opacity count."""

    @property
    def alpha(self) -> AlphaPlane | None:
        """Where the opacity is; None where there is none."""
        frame = self.source if self.kind == "yuv" else self.frame
        layout = frame.format
        if self.kind == "gray" or not has_alpha(layout) or not is_readable_planar(layout):
            return None
        return AlphaPlane(frame, layout.components[-1].plane, _white(self.source.format, layout, -1))

    @property
    def white(self) -> tuple[float, float, float]:
        """The samples of red, green and blue that mean 1.0, of a frame of kind "rgb"."""
        layouts = self.source.format, self.frame.format
        red, green, blue = (_white(*layouts, component) for component in range(3))
        return red, green, blue


class FrameToPlanar:
    """Brings the frames of one stream to one size and into planes; keeps its scalers. Not thread-safe.

    Args:
        width: Of the result, in pixels. Frames of another size are scaled to it.
        height: Of the result, in pixels.
        codec: The codec's name; it decides the range of untagged grey pictures.
    """

    def __init__(self, width: int, height: int, *, codec: str) -> None:
        self.width, self.height = width, height
        self._codec = codec
        self._reformatter = VideoReformatter()
        self._scaler = VideoReformatter()

    def convert(self, frame: VideoFrame) -> Planar:
        """The frame in planes. It is only read: its own may be references of frames still to be decoded.

        Raises:
            FFmpegError, ValueError: libswscale does not know the pixel format.
        """
        if (frame.width, frame.height) != (self.width, self.height):
            frame = self._scaler.reformat(
                frame, self.width, self.height, interpolation=_CHROMA_FILTER, threads=1
            )
        layout = frame.format
        if is_rgb(layout):
            return self._rgb(frame)
        if is_gray(layout):
            # Grey with alpha interleaved, big-endian or one bit per pixel has no readable plane of its own.
            return Planar("gray", frame, frame) if is_readable_planar(layout) else self._rgb(frame)
        return self._yuv(frame)

    def _yuv(self, frame: VideoFrame) -> Planar:
        # The same tags on both sides: no matrix and no range conversion happens, and tags that libswscale
        # does not know (or reserved ones) are not looked at.
        code = ColorRange.JPEG if is_full_range(frame, self._codec) else ColorRange.MPEG
        work = self._reformatter.reformat(
            frame,
            format="yuv444p16le",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=code,
            dst_color_range=code,
            interpolation=_CHROMA_FILTER,
            threads=1,
        )
        return Planar("yuv", work, frame)

    def _rgb(self, frame: VideoFrame) -> Planar:
        source, layout = frame, frame.format
        if not (layout.name.startswith("gbr") and is_readable_planar(layout)):
            suffix = "16le" if layout.components[0].bits > 8 else ""
            planar = ("gbrap" if has_alpha(layout) else "gbrp") + suffix
            if layout.has_palette:  # there is no direct way from a palette to planes with alpha
                frame = self._scaler.reformat(frame, format="rgba", threads=1)
            frame = self._reformatter.reformat(frame, format=planar, interpolation=_CHROMA_FILTER, threads=1)
        return Planar("rgb", frame, source)


def check_readable(planar: Planar) -> None:
    """Read every plane once.

    Raises:
        NotImplementedError: PyAV has no way to a plane's samples, as of formats that pack bits.
    """
    for index in range(len(planar.frame.planes)):
        _samples(planar.frame, index)


def has_transparent_pixels(planar: Planar) -> bool:
    """Whether any pixel lets what is behind it through."""
    alpha = planar.alpha
    return alpha is not None and float(_samples(alpha.frame, alpha.plane).min()) < alpha.peak


def highest(alpha: AlphaPlane) -> float:
    """The sample of the most opaque pixel."""
    return float(_samples(alpha.frame, alpha.plane).max())


def _samples(frame: VideoFrame, index: int) -> "np.ndarray[Any, Any]":
    plane = frame.planes[index]
    if is_float(frame.format):
        rows = np.frombuffer(memoryview(plane), np.float32).reshape(plane.height, -1)
        return rows[:, : plane.width]
    return np.from_dlpack(plane)


def _white(source: VideoFormat, planes: VideoFormat, component: int) -> float:
    """The sample that means 1.0 in planes that libswscale has made of a frame of the format `source`."""
    if source.name == planes.name or source.has_palette:
        return peak(planes, component)
    bits = source.components[min(component, len(source.components) - 1)].bits
    if bits < 8:
        return _COARSE_WHITE[bits] if is_rgb(source) else peak(planes, component)
    if not 8 < bits < 16 or source.name.startswith(
        "x2"
    ):  # packed 10-bit formats are expanded to the full scale
        return peak(planes, component)
    return float(((1 << bits) - 1) << (16 - bits))


def is_rgb(layout: VideoFormat) -> bool:
    """Whether the samples are R'G'B' already, directly or through a palette."""
    return layout.is_rgb or layout.has_palette


def is_gray(layout: VideoFormat) -> bool:
    """Whether there is luma only (and perhaps alpha)."""
    return layout.name.startswith(("gray", "ya8", "ya16", "mono"))


def is_float(layout: VideoFormat) -> bool:
    """Whether samples are 32-bit floats; PyAV exports integer planes only."""
    return "f32" in layout.name


def has_alpha(layout: VideoFormat) -> bool:
    """Whether pixels carry transparency."""
    return layout.has_palette or any(component.is_alpha for component in layout.components)


def is_full_range(frame: VideoFrame, codec: str) -> bool:
    """Whether code values span the whole range, from the tag or from what the format implies."""
    layout = frame.format
    if is_rgb(layout) or layout.name.startswith("yuvj"):
        return True
    if frame.color_range in (_FULL_RANGE, _LIMITED_RANGE):
        return frame.color_range == _FULL_RANGE
    return is_gray(layout) and codec not in _LIMITED_GRAY_CODECS


def is_readable_planar(layout: VideoFormat) -> bool:
    """Whether each component is its own plane of native integers or floats."""
    planes = [component.plane for component in layout.components]
    return len(set(planes)) == len(planes) and not layout.is_big_endian and not layout.is_bit_stream


def peak(layout: VideoFormat, component: int) -> float:
    """The value that means 1.0."""
    return 1.0 if is_float(layout) else (1 << layout.components[component].bits) - 1.0
