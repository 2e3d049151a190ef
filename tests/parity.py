"""DovePipeline behind the call of the golden set's checker.

`run` has the reference's command-line options as a dictionary and returns what its script computes before
quantisation. It holds no arithmetic of its own: options and plan are translated, the pipeline does the rest.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.planning.diffusion_plan import DiffusionPlan


@lru_cache(maxsize=4)
def load(folder: str, dtype: torch.dtype, timestep: int) -> DovePipeline:
    return DovePipeline.from_checkpoint(Path(folder), dtype=dtype, timestep=timestep)


def run(
    ckpt_dir: str, frames_u8: np.ndarray, params: dict[str, Any], rule: Literal["sample", "mode"]
) -> np.ndarray:
    """Upscales (F, h, w, 3) uint8 with the reference's options; returns (F, H, W, 3) float32, [0, 1]."""
    dtype = getattr(torch, params.get("dtype", "float32"))
    pipeline = load(str(ckpt_dir), dtype, params["sr_noise_step"])
    scale, chunk_len = params["upscale"], params["chunk_len"]
    tile_height, tile_width = params["tile_size_hw"]
    has_tiles = bool(tile_height and tile_width)
    plan = DiffusionPlan(
        chunk_len=chunk_len,
        chunk_overlap=params["overlap_t"] if chunk_len else 0,
        tile_height=tile_height,
        tile_width=tile_width,
        overlap_height=params["overlap_hw"][0] if has_tiles else 0,
        overlap_width=params["overlap_hw"][1] if has_tiles else 0,
    )
    options = DoveOptions.reference(
        latent_rule=rule,
        upsample=params["upscale_mode"],
        use_vae_tiling=params["is_vae_st"],
        noise_step=params["noise_step"],
    )
    clip = torch.from_numpy(frames_u8).permute(0, 3, 1, 2).contiguous()
    torch.manual_seed(params["seed"])
    output = pipeline(
        clip, height=clip.shape[2] * scale, width=clip.shape[3] * scale, options=options, plan=plan
    )
    return output.frames.permute(0, 2, 3, 1).contiguous().numpy()
