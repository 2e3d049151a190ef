"""Sizes of one call: source, target, what the network works on, and the padding in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipelines.color import match_color
from pipelines.dove.options import DoveOptions, Upsample
from pipelines.errors import UnsupportedSizeError
from pipelines.planning.shapes import DiffusionShape
from pipelines.planning.slices import frames_per_slice

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

    def pad_source(self, frames: torch.Tensor) -> torch.Tensor:
        """Source frames as the network's levels.

        Args:
            frames: (F, 3, h, w), uint8, or float with [0, 1].

        Returns:
            (F, 3, h', w'), float32, [0, 255], padded at the bottom and on the right.
        """
        # On 0..255, as the reference interpolates: the order of rounding is part of its bits.
        levels = frames.float() if frames.dtype == torch.uint8 else frames.float() * 255
        bottom, right = self.source_padding
        if not bottom and not right:
            return levels
        return F.pad(levels, (0, right, 0, bottom), mode="constant" if self.is_black_padding else "replicate")

    def upsample(self, levels: torch.Tensor, mode: Upsample) -> torch.Tensor:
        """The network's input.

        Args:
            levels: (F, 3, h', w') of `pad_source`.
            mode: Interpolation.

        Returns:
            (1, 3, F, *padded), float32, about [-1, 1] (bicubic overshoots).
        """
        sample = levels.new_empty(1, 3, levels.shape[0], *self.padded)
        step = frames_per_slice(*self.padded)
        for start in range(0, levels.shape[0], step):
            upsampled = self._upsample(levels[start : start + step], self.padded, mode)
            sample[0, :, start : start + step] = to_unit_range(upsampled).transpose(0, 1)
        return sample

    def _upsample(self, levels: torch.Tensor, size: tuple[int, int], mode: Upsample) -> torch.Tensor:
        """(f, 3, h', w') to (f, 3, *size), cropped from or padded to it; a tensor of its own."""
        is_smaller = self.upsampled[0] < levels.shape[-2] or self.upsampled[1] < levels.shape[-1]
        upsampled = F.interpolate(
            levels, size=self.upsampled, mode=mode, align_corners=False, antialias=is_smaller
        )
        if self.upsampled == levels.shape[-2:]:  # torch gives back what it was given
            upsampled = upsampled.clone()
        rows, cols = size[0] - self.upsampled[0], size[1] - self.upsampled[1]
        if rows > 0 or cols > 0:
            upsampled = F.pad(upsampled, (0, max(cols, 0), 0, max(rows, 0)), mode="replicate")
        return upsampled[..., : size[0], : size[1]]

    def finish(
        self,
        decoded: torch.Tensor,
        levels: torch.Tensor,
        options: DoveOptions,
        mode: Upsample,
        *,
        at_once: int = 0,
    ) -> Iterator[torch.Tensor]:
        """Crops decoded frames, matches their colour and brings them to the target size, a few at a time:
        what it holds beside its arguments is bounded, whatever the number of frames.

        Args:
            decoded: (1, 3, f, *padded), about [-1, 1], in the VAE's dtype.
            levels: (f, 3, h', w') of `pad_source`, the same frames.
            options: Colour matching and the dtype of the output map.
            mode: Interpolation of the network's input.
            at_once: Frames at most; 0 for as many as are quick.

        Yields:
            (g, 3, *target), float32, [0, 1], on the device of `levels`, f in all.
        """
        height, width = self.content
        frames = decoded[0, :, :, :height, :width].transpose(0, 1)
        sizes = (self.padded, self.target)
        step = min(frames_per_slice(*size) for size in sizes)
        step = min(step, at_once or step)
        for start in range(0, frames.shape[0], step):
            piece = frames[start : start + step]
            if not options.use_float32_output:
                piece = (piece * 0.5 + 0.5).clamp_(0, 1).float()
            else:
                piece = _to_code_values(piece)
                if options.color_match != "none":
                    source = self._upsample(levels[start : start + step], self.content, mode)
                    source = source.div_(255).to(piece.device)
                    sigma = options.color_sigma * height / self.source[0]
                    piece = match_color(piece, source, method=options.color_match, sigma=sigma)
                    del source
                piece = piece.clamp_(0, 1)
            yield self._resize(piece).to(levels.device)

    def _resize(self, frames: torch.Tensor) -> torch.Tensor:
        if self.content == self.target:
            return frames
        return F.interpolate(
            frames, size=self.target, mode="bicubic", align_corners=False, antialias=True
        ).clamp_(0, 1)


def to_unit_range(levels: torch.Tensor) -> torch.Tensor:
    """[0, 255] to [-1, 1], in place."""
    return levels.div_(255.0).mul_(2.0).sub_(1.0)


def _to_code_values(frames: torch.Tensor) -> torch.Tensor:
    """(f, 3, H, W) of [-1, 1] in any dtype and layout to [0, 1], float32, contiguous, in one pass."""
    frames = frames.float()
    half = torch.tensor(0.5, device=frames.device)
    out = torch.empty(frames.shape, dtype=torch.float32, device=frames.device)
    return torch.add(half, frames, alpha=0.5, out=out)


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
