"""Decoded frames to R'G'B' float images.

libswscale only brings chroma to full resolution here: into `yuv444p16le`, where a sample is the source's code
shifted up, exactly. The matrix is ours, in float. Letting libswscale make R'G'B' costs 1.3 levels on average
(its fast path takes the nearest chroma sample), and its outputs of more than 8 bits put white at 0.996.
"""

from functools import cache

import torch
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from media.color import LUMA_COEFFICIENTS, YCGCO, effective_matrix

_CHROMA_FILTER = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_WORK_BITS = 16
_FULL_RANGE = 2
_LIMITED_RANGE = 1

# Decoders whose grey pictures are limited range unless tagged; for the others (PNG, FFV1, ...) grey means
# 0...max.
_LIMITED_GRAY_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "vvc"})

TRANSPARENCY_WARNING = "transparency is dropped; the picture is laid over black"

Affine = tuple[tuple[tuple[float, float, float], ...], tuple[float, float, float]]


class FrameToRgb:
    """Converts the frames of one stream to one size; keeps its scalers between calls. Not thread-safe.

    Args:
        width: Width of the images, in pixels. Frames of another size are scaled to it.
        height: Height of the images, in pixels.
        codec: The codec's name; it decides the range of untagged grey pictures.
    """

    def __init__(self, width: int, height: int, *, codec: str) -> None:
        self.width, self.height = width, height
        self.has_met_transparency = False
        """Whether any pixel so far let the black behind it through."""
        self._codec = codec
        self._reformatter = VideoReformatter()
        self._scaler = VideoReformatter()

    def convert(self, frame: VideoFrame) -> Tensor:
        """Make an image. The frame is only read: its planes may be references of frames still to be decoded.

        Args:
            frame: As decoded, any pixel format. Transparent pixels are laid over black.

        Returns:
            (3, height, width), float32, R'G'B' code values in [0, 1], own memory.
        """
        if (frame.width, frame.height) != (self.width, self.height):
            frame = self._scaler.reformat(
                frame, self.width, self.height, interpolation=_CHROMA_FILTER, threads=1
            )
        layout = frame.format
        if is_rgb(layout):
            image, alpha = self._from_rgb(frame)
        elif is_gray(layout):
            image, alpha = self._from_gray(frame)
        else:
            image, alpha = self._from_yuv(frame)
        if alpha is not None and float(alpha.min()) < 1.0:
            self.has_met_transparency = True
            image.mul_(alpha)
        return image

    def _from_yuv(self, frame: VideoFrame) -> tuple[Tensor, Tensor | None]:
        full_range = is_full_range(frame, self._codec)
        # The same tags on both sides: no matrix and no range conversion happens, and tags that libswscale
        # does not know (or reserved ones) are not looked at.
        code = ColorRange.JPEG if full_range else ColorRange.MPEG
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
        matrix = effective_matrix(frame.colorspace, self.width, self.height)
        bits = min(frame.format.components[0].bits, _WORK_BITS)
        weights, offsets = yuv_to_rgb_affine(matrix, full_range=full_range, bits=bits)
        y, u, v = (_samples(work, index) for index in range(3))
        image = torch.empty(3, self.height, self.width)
        for channel, (from_y, from_u, from_v) in enumerate(weights):
            out = torch.mul(y, from_y, out=image[channel])
            if from_u:
                out.add_(u, alpha=from_u)
            if from_v:
                out.add_(v, alpha=from_v)
            out.add_(offsets[channel]).clamp_(0.0, 1.0)
        return image, _alpha_plane(frame)

    def _from_gray(self, frame: VideoFrame) -> tuple[Tensor, Tensor | None]:
        layout = frame.format
        bits = layout.components[0].bits
        if not _is_readable_planar(layout):  # grey with alpha interleaved, big-endian, one bit per pixel
            return self._from_rgb(frame)
        unit = 2.0 ** (bits - 8)
        is_full = is_full_range(frame, self._codec)
        low, span = (0.0, _peak(layout, 0)) if is_full else (16 * unit, 219 * unit)
        luma = _samples(frame, 0).sub_(low).div_(span).clamp_(0.0, 1.0)
        return luma.expand(3, -1, -1).clone(), None

    def _from_rgb(self, frame: VideoFrame) -> tuple[Tensor, Tensor | None]:
        layout = frame.format
        if not (layout.name.startswith("gbr") and _is_readable_planar(layout)):
            suffix = "16le" if layout.components[0].bits > 8 else ""
            planar = ("gbrap" if has_alpha(layout) else "gbrp") + suffix
            if layout.has_palette:  # there is no direct way from a palette to planes with alpha
                frame = self._scaler.reformat(frame, format="rgba", threads=1)
            frame = self._reformatter.reformat(frame, format=planar, interpolation=_CHROMA_FILTER, threads=1)
        image = torch.stack([_samples(frame, index) for index in (2, 0, 1)])  # planes are G, B, R
        return image.div_(_peak(frame.format, 0)).clamp_(0.0, 1.0), _alpha_plane(frame)


@cache
def yuv_to_rgb_affine(matrix: int, *, full_range: bool, bits: int) -> Affine:
    """The map from `yuv444p16le` samples to R'G'B' in [0, 1]: weights (3 x 3) and offsets (3).

    Args:
        matrix: H.273 matrix code point, one of `LUMA_COEFFICIENTS` or YCgCo.
        full_range: Whether codes span 0 ... 2^bits - 1 rather than 16 ... 235 (luma), 16 ... 240 (chroma).
        bits: Bit depth of the source; its codes sit in the upper bits of a sample.
    """
    unit = 2.0 ** (bits - 8)
    shift = 2.0 ** (_WORK_BITS - bits)
    peak = 2.0**bits - 1
    luma_span, chroma_span = (peak, peak) if full_range else (219 * unit, 224 * unit)
    black, neutral = (0.0 if full_range else 16 * unit), 128 * unit
    rows: list[tuple[float, float, float]] = []
    offsets: list[float] = []
    for _, from_u, from_v in _unit_rows(matrix):
        rows.append((1 / (luma_span * shift), from_u / (chroma_span * shift), from_v / (chroma_span * shift)))
        offsets.append(-black / luma_span - (from_u + from_v) * neutral / chroma_span)
    return tuple(rows), (offsets[0], offsets[1], offsets[2])


def _unit_rows(matrix: int) -> tuple[tuple[float, float, float], ...]:
    """R', G', B' from Y' in [0, 1] and Cb, Cr in [-0.5, 0.5]: H.273 equations 38-46 solved for R'G'B'."""
    if matrix == YCGCO:
        return ((1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (1.0, -1.0, -1.0))
    weights = LUMA_COEFFICIENTS[matrix]
    kr, kg, kb = weights.kr, weights.kg, weights.kb
    return (
        (1.0, 0.0, 2 * (1 - kr)),
        (1.0, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg),
        (1.0, 2 * (1 - kb), 0.0),
    )


def is_rgb(layout: VideoFormat) -> bool:
    """Whether the samples are R'G'B' already, directly or through a palette."""
    return layout.is_rgb or layout.has_palette


def is_gray(layout: VideoFormat) -> bool:
    """Whether there is luma only (and perhaps alpha)."""
    return layout.name.startswith(("gray", "ya8", "ya16", "mono"))


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


def _is_readable_planar(layout: VideoFormat) -> bool:
    """Whether each component is its own plane of native integers or floats."""
    planes = [component.plane for component in layout.components]
    return len(set(planes)) == len(planes) and not layout.is_big_endian and not layout.is_bit_stream


def _samples(frame: VideoFrame, index: int) -> Tensor:
    """A plane's samples as new float32, (H, W)."""
    plane = frame.planes[index]
    if "f32" in frame.format.name:  # PyAV exports integers only
        rows = torch.frombuffer(bytearray(plane), dtype=torch.float32).view(plane.height, -1)
        return rows[:, : plane.width].clone()
    # dlpack hands out the decoder's own memory; the conversion to float is the copy that makes it ours.
    samples: Tensor = torch.utils.dlpack.from_dlpack(plane)
    return samples.to(torch.float32, copy=True)


def _peak(layout: VideoFormat, component: int) -> float:
    """The value that means 1.0."""
    return 1.0 if "f32" in layout.name else (1 << layout.components[component].bits) - 1.0


def _alpha_plane(frame: VideoFrame) -> Tensor | None:
    """Opacity, (H, W), float32, [0, 1]; None where the format has none."""
    layout = frame.format
    if not has_alpha(layout) or not _is_readable_planar(layout):
        return None
    return _samples(frame, layout.components[-1].plane).div_(_peak(layout, -1))
