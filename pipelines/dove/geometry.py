"""Sizes of one call: source, target, what the network works on, and the padding in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipelines.color import match_color
from pipelines.dove.options import DoveOptions, Upsample
from pipelines.errors import UnsupportedSizeError
from pipelines.planning.shapes import DiffusionShape

REFERENCE_ALIGNMENT = 16


@dataclass(frozen=True)
class Geometry:
    """From source pixels to network pixels to target pixels.

    Attributes:
        source: Height and width of the source.
        source_padding: Rows below and columns to the right that the source gets before upsampling.
        upsampled: Size after upsampling the padded source.
        padded: `upsampled` with rows and columns up to the network's alignment.
        content: The part of `padded` that shows the source.
        target: Height and width of the result.
        is_black_padding: Whether the source is padded with black rather than with its edge pixels.
    """

    source: tuple[int, int]
    source_padding: tuple[int, int]
    upsampled: tuple[int, int]
    padded: tuple[int, int]
    content: tuple[int, int]
    target: tuple[int, int]
    is_black_padding: bool = False

    def prepare(self, frames: torch.Tensor, mode: Upsample) -> tuple[torch.Tensor, torch.Tensor]:
        """Pads and upsamples source frames.

        Args:
            frames: (F, 3, h, w), uint8, or float with [0, 1].
            mode: Interpolation.

        Returns:
            sample: (1, 3, F, *padded), float32, about [-1, 1] (bicubic overshoots).
            lq: (1, 3, F, h', w'), the padded source, float32, [-1, 1].
        """
        # On 0..255, as the reference interpolates: the order of rounding is part of its bits.
        levels = frames.float() if frames.dtype == torch.uint8 else frames.float() * 255
        bottom, right = self.source_padding
        if bottom or right:
            levels = F.pad(
                levels, (0, right, 0, bottom), mode="constant" if self.is_black_padding else "replicate"
            )
        is_smaller = self.upsampled[0] < levels.shape[-2] or self.upsampled[1] < levels.shape[-1]
        sample = F.interpolate(
            levels, size=self.upsampled, mode=mode, align_corners=False, antialias=is_smaller
        )
        rows, cols = self.padded[0] - self.upsampled[0], self.padded[1] - self.upsampled[1]
        if rows or cols:
            sample = F.pad(sample, (0, cols, 0, rows), mode="replicate")
        return _to_clip(sample), _to_clip(levels)

    def finish(self, decoded: torch.Tensor, sample: torch.Tensor, options: DoveOptions) -> torch.Tensor:
        """Crops decoded frames, matches their colour and brings them to the target size.

        Args:
            decoded: (1, 3, f, *padded), about [-1, 1], in the VAE's dtype.
            sample: (1, 3, f, *padded), the network's input for these frames.
            options: Colour matching and the dtype of the output map.

        Returns:
            (f, 3, *target), float32, [0, 1], on the device of `sample`.
        """
        height, width = self.content
        frames = decoded[0, :, :, :height, :width].transpose(0, 1)
        if not options.use_float32_output:
            return self._resize((frames * 0.5 + 0.5).clamp(0, 1).float()).to(sample.device)
        frames = frames.float() * 0.5 + 0.5
        if options.color_match != "none":
            source = sample[0, :, :, :height, :width].transpose(0, 1).to(frames.device)
            sigma = options.color_sigma * height / self.source[0]
            frames = match_color(frames, source * 0.5 + 0.5, method=options.color_match, sigma=sigma)
        return self._resize(frames.clamp(0, 1)).to(sample.device)

    def _resize(self, frames: torch.Tensor) -> torch.Tensor:
        if self.content == self.target:
            return frames
        return F.interpolate(
            frames, size=self.target, mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)


def _to_clip(levels: torch.Tensor) -> torch.Tensor:
    return (levels / 255.0 * 2.0 - 1.0).transpose(0, 1)[None].contiguous()


def make_geometry(
    source: tuple[int, int], target: tuple[int, int], model: DiffusionShape, options: DoveOptions
) -> Geometry:
    """Works out the sizes of a call.

    Raises:
        UnsupportedSizeError: If a size is not positive, or black source padding meets a scale that is not the
            same whole number on both sides.
    """
    if min(*source, *target) < 1:
        raise UnsupportedSizeError(
            f"sizes must be positive, got {source[1]}x{source[0]} -> {target[1]}x{target[0]}"
        )
    if model.native_scale is not None:
        scale = model.native_scale
        # Padding the source keeps the network's frame an exact multiple of it, which its decoder relies on.
        unit = max(model.alignment // scale, 1)
        padding = -source[0] % unit, -source[1] % unit
        padded = (source[0] + padding[0]) * scale, (source[1] + padding[1]) * scale
        content = source[0] * scale, source[1] * scale
        return Geometry(source, padding, padded, padded, content, target)
    if options.padding == "black_source":
        scale = target[0] // source[0]
        if scale < 1 or target != (source[0] * scale, source[1] * scale):
            raise UnsupportedSizeError(
                f"padding 'black_source' needs a whole-numbered scale, got {source[1]}x{source[0]} -> "
                f"{target[1]}x{target[0]}; use padding 'replicate'"
            )
        padding = -source[0] % REFERENCE_ALIGNMENT, -source[1] % REFERENCE_ALIGNMENT
        padded = (source[0] + padding[0]) * scale, (source[1] + padding[1]) * scale
        return Geometry(source, padding, padded, padded, target, target, is_black_padding=True)
    align = model.alignment
    padded = target[0] + -target[0] % align, target[1] + -target[1] % align
    return Geometry(source, (0, 0), target, padded, target, target)
