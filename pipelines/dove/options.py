"""Options of an upscaling call. Each deviation from the DOVE script is one named option."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

import torch

from pipelines.color import ColorMatch
from pipelines.errors import InvalidOptionError
from pipelines.planning.diffusion_plan import Segmentation
from pipelines.tiling import Blend

LatentRule = Literal["mode", "sample"]
Padding = Literal["replicate", "black_source"]
Upsample = Literal["bilinear", "bicubic"]
TileFusionRule = Literal["latent", "pixel", "cut"]
VaeTiling = Literal["plan", "joint", "reference", "off"]
Quantization = Literal["round", "truncate"]


@dataclass(frozen=True)
class DoveOptions:
    """How a clip is upscaled. The defaults are the better choice for users, `reference()` is the DOVE script.

    Attributes:
        latent_rule: `mode` of the VAE's posterior: the same source gives the same output whatever came before
            and however it is cut. `sample` draws noise, as the reference does.
        upsample: Interpolation to the target size before encoding; None takes the checkpoint's.
        padding: `replicate` continues the upsampled frame by its edge pixels, up to a multiple of 16.
            `black_source` pads the source with black up to a multiple of 16, which darkens the last rows by
            up to 37 % and enlarges the frame; needs a whole-numbered scale.
        segmentation: `equal` chunks and tiles, chunks always of 8k + 1 frames. `reference` merges a short
            last piece into the one before and shifts time for chunk lengths that are not multiples of 8.
        tile_fusion: `latent` fuses overlapping tiles before one decode; `pixel` fades decoded tiles into each
            other; `cut` puts them side by side.
        chunk_blend: `fade` crosses over where chunks overlap; `cut` switches in the middle.
        vae_tiling: `plan` tiles CogVideoX's VAE where the plan says so; `joint` does too, and its tiles share
            the statistics of group norms, for the time of one tile more; `reference` uses diffusers' own
            tiles (`--is_vae_st`); `off` never tiles.
        color_match: Whether the source's low frequencies (or means) replace the output's.
        color_sigma: Standard deviation of that low-pass, in source pixels.
        quantization: How `DoveOutput.to_uint8` gets to integers; truncation darkens by half a level.
        noise_step: Timestep of noise added to the latents; 0 adds none.
        use_float32_output: Whether [-1, 1] is mapped to [0, 1] in float32 rather than in the VAE's dtype.
    """

    latent_rule: LatentRule = "mode"
    upsample: Upsample | None = None
    padding: Padding = "replicate"
    segmentation: Segmentation = "equal"
    tile_fusion: TileFusionRule = "latent"
    chunk_blend: Blend = "fade"
    vae_tiling: VaeTiling = "plan"
    color_match: ColorMatch = "lowpass"
    color_sigma: float = 4.0
    quantization: Quantization = "round"
    noise_step: int = 0
    use_float32_output: bool = True

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, accepted = getattr(self, field.name), get_args(hints[field.name])
            # Literal["a", "b"] and Literal["a", "b"] | None; everything else has no arguments.
            choices = [choice for part in accepted for choice in (get_args(part) or (part,))]
            choices = [None if choice is type(None) else choice for choice in choices]
            if choices and value not in choices:
                names = ", ".join(repr(choice) for choice in choices)
                raise InvalidOptionError(f"{field.name} must be one of {names}, got {value!r}")
        if not 0 <= self.noise_step < 1000:
            raise InvalidOptionError(f"noise_step must lie in 0..999, got {self.noise_step}")
        if not self.color_sigma > 0:
            raise InvalidOptionError(f"color_sigma must be positive, got {self.color_sigma}")

    @classmethod
    def reference(
        cls,
        *,
        latent_rule: LatentRule = "sample",
        upsample: Upsample = "bilinear",
        use_vae_tiling: bool = True,
        noise_step: int = 0,
    ) -> DoveOptions:
        """The DOVE script's choices, bit for bit (its crop at scales other than 4 is not reproduced).

        With `sample` the noise comes from torch's global generator in the script's order (chunk, row,
        column), so `torch.manual_seed(42)` right before the call gives its numbers.
        """
        return cls(
            latent_rule=latent_rule,
            upsample=upsample,
            padding="black_source",
            segmentation="reference",
            tile_fusion="cut",
            chunk_blend="cut",
            vae_tiling="reference" if use_vae_tiling else "off",
            color_match="none",
            quantization="truncate",
            noise_step=noise_step,
            use_float32_output=False,
        )


@dataclass(frozen=True)
class DoveOutput:
    """What a pipeline call returns.

    Attributes:
        frames: (F, 3, H, W), float32, [0, 1], on the device of the clip.
        quantization: How `to_uint8` rounds.
    """

    frames: torch.Tensor
    quantization: Quantization = "round"

    def to_uint8(self) -> torch.Tensor:
        """(F, 3, H, W), uint8."""
        levels = self.frames * 255
        if self.quantization == "round":
            levels = levels.round()
        return levels.clamp(0, 255).to(torch.uint8)
