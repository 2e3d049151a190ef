"""Decoded frames to R'G'B' float images: the matrix, in float. `_planar` says what libswscale does before."""

from functools import cache

import torch
from av.video.frame import VideoFrame
from torch import Tensor

from media._planar import FrameToPlanar, Planar, is_float, is_full_range, peak
from media.color import LUMA_COEFFICIENTS, YCGCO, effective_matrix
from media.info import AlphaUse
from media.transparency import unmultiply

_WORK_BITS = 16

Affine = tuple[tuple[tuple[float, float, float], ...], tuple[float, float, float]]


class FrameToRgb:
    """Converts the frames of one stream to one size; keeps its scalers between calls. Not thread-safe.

    Args:
        width: Width of the images, in pixels. Frames of another size are scaled to it.
        height: Height of the images, in pixels.
        codec: The codec's name; it decides the range of untagged grey pictures.
        alpha: What alpha planes mean.
        keep_alpha: Give opacity beside straight colours, instead of laying pictures over black.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        codec: str,
        alpha: AlphaUse = "straight",
        keep_alpha: bool = False,
    ) -> None:
        self.width, self.height = width, height
        self.has_met_transparency = False
        """Whether any pixel so far let the black behind it through."""
        self._codec, self._alpha_use, self._keep_alpha = codec, alpha, keep_alpha
        self._num_channels = 4 if keep_alpha else 3
        self._to_planar = FrameToPlanar(width, height, codec=codec)

    def convert(self, frame: VideoFrame, *, out: Tensor | None = None) -> Tensor:
        """Make an image. The frame is only read: its planes may be references of frames still to be decoded.

        Args:
            frame: As decoded, any pixel format.
            out: Like the result, contiguous: where to make the image; None: in new memory.

        Returns:
            (3, height, width), float32, R'G'B' code values in [0, 1]: `out`, or own memory. With `keep_alpha`
            (4, height, width): the colours, and how opaque they are.
        """
        planar = self._to_planar.convert(frame)
        made = torch.empty(self._num_channels, self.height, self.width) if out is None else out
        image = made[:3]
        if planar.kind == "rgb":
            _from_rgb(planar, image)
        elif planar.kind == "gray":
            self._from_gray(planar.frame, image)
        else:
            self._from_yuv(planar, image)
        has_alpha = planar.alpha is not None and self._alpha_use != "unused"
        opacity = _opacity(planar) if has_alpha else None
        if self._keep_alpha:
            _keep(opacity, made, is_premultiplied=self._alpha_use == "premultiplied")
        elif opacity is not None and float(opacity.min()) < 1.0:
            self.has_met_transparency = True
            if self._alpha_use == "straight":  # else what lies over black is what is stored
                image.mul_(opacity)
        return made

    def _from_yuv(self, planar: Planar, image: Tensor) -> None:
        source = planar.source
        matrix = effective_matrix(source.colorspace, self.width, self.height)
        bits = min(source.format.components[0].bits, _WORK_BITS)
        full_range = is_full_range(source, self._codec)
        weights, offsets = yuv_to_rgb_affine(matrix, full_range=full_range, bits=bits)
        y, u, v = (_samples(planar.frame, index) for index in range(3))
        for channel, (from_y, from_u, from_v) in enumerate(weights):
            out = torch.mul(y, from_y, out=image[channel])
            if from_u:
                out.add_(u, alpha=from_u)
            if from_v:
                out.add_(v, alpha=from_v)
            out.add_(offsets[channel]).clamp_(0.0, 1.0)

    def _from_gray(self, frame: VideoFrame, image: Tensor) -> None:
        layout = frame.format
        unit = 2.0 ** (layout.components[0].bits - 8)
        is_full = is_full_range(frame, self._codec)
        low, span = (0.0, peak(layout, 0)) if is_full else (16 * unit, 219 * unit)
        image.copy_(_samples(frame, 0).sub_(low).div_(span).clamp_(0.0, 1.0))  # to all three


def _opacity(planar: Planar) -> Tensor:
    """(H, W), float32: 0 is transparent, 1 opaque."""
    assert planar.alpha is not None
    return _samples(planar.alpha.frame, planar.alpha.plane).div_(planar.alpha.peak)


def _keep(opacity: Tensor | None, made: Tensor, *, is_premultiplied: bool) -> None:
    """Put the opacity behind the colours, which are not multiplied by it any more."""
    if opacity is None:
        made[3] = 1.0
        return
    torch.clamp(opacity, 0.0, 1.0, out=made[3])
    if is_premultiplied:
        made[:3] = unmultiply(made[:3], made[3:])


def _from_rgb(planar: Planar, image: Tensor) -> None:
    torch.stack([_samples(planar.frame, index) for index in (2, 0, 1)], out=image)  # planes are G, B, R
    for channel, white in zip(image, planar.white, strict=True):
        channel.div_(white).clamp_(0.0, 1.0)


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


def _samples(frame: VideoFrame, index: int) -> Tensor:
    """A plane's samples as new float32, (H, W)."""
    plane = frame.planes[index]
    if is_float(frame.format):  # PyAV exports integers only
        rows = torch.frombuffer(bytearray(plane), dtype=torch.float32).view(plane.height, -1)
        return rows[:, : plane.width].clone()
    # dlpack hands out the decoder's own memory; the conversion to float is the copy that makes it ours.
    samples: Tensor = torch.utils.dlpack.from_dlpack(plane)
    return samples.to(torch.float32, copy=True)
