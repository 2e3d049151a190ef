"""(b) One chunk of 33 frames at real sizes, untiled and tiled, beside the plain path in the same process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu.kit import Kit
from benchmarks.gpu.models import Clip, load_random, measure, release
from pipelines.dove.model import DoveModel
from pipelines.dove.options import DoveOptions
from pipelines.errors import PipelineError, is_out_of_memory
from pipelines.planning.diffusion_plan import DiffusionPlan, fitted_plan
from pipelines.planning.plan import ChunkPlan

NAME = "sizes"


@dataclass(frozen=True)
class Path:
    """A way to restore the clip.

    Attributes:
        name: In tables.
        options: Of the call; None for the recommended ones.
        loading: As for `DovePipeline.from_checkpoint`.
    """

    name: str
    options: DoveOptions | None = None
    loading: dict[str, Any] = field(default_factory=dict)


def reference(*, is_tiled: bool) -> DoveOptions:
    """The script's options; the posterior's mode, so that results can be compared."""
    return DoveOptions.reference(latent_rule="mode", use_vae_tiling=is_tiled)


# Where cuDNN times its kernels, it may take others in the next run, and equal work would not have equal bits.
UNTIMED = {"use_cudnn_benchmark": False}
# What a user of the script gets; the same bits with our savings; our recommended options; these, as fast as
# they go.
PLAIN, EXACT, RECOMMENDED, FAST = "plain", "exact", "recommended", "fast"
# Largest output that the script can do without tiles: beyond, diffusers' own split of convolutions fails.
MAX_PLAIN_PIXELS = 1_600_000
CLIPS = {"720p": Clip(720, 1280), "1440p": Clip(1440, 2560), "2160p": Clip(2160, 3840)}
TINY_CLIPS = {"64p": Clip(64, 64, 9), "128p": Clip(128, 192, 9)}
# Side of a tile of transformer and VAE, for the tiled rows of our own paths.
TILE, TINY_TILE = 1024, 96


def paths(*, is_tiled: bool) -> list[Path]:
    """All ways, tiled or not."""
    return [
        Path(PLAIN, reference(is_tiled=is_tiled), {"use_lossless_savings": False} | UNTIMED),
        Path(EXACT, reference(is_tiled=is_tiled), UNTIMED),
        Path(RECOMMENDED),
        Path(FAST, None, {"use_compile": True}),
    ]


def answer(kit: Kit) -> bool:
    """Measures what is not measured yet, while there is time.

    Returns:
        Whether all is measured.
    """
    rows: dict[str, Any] = dict(kit.load(NAME).get("rows", {}))
    plain: dict[str, torch.Tensor] = {}
    pace = 0.0  # seconds per pixel and frame of the slowest path so far
    for size, clip in (TINY_CLIPS if kit.is_tiny else CLIPS).items():
        for is_tiled in (False, True):
            for path in paths(is_tiled=is_tiled):
                key = f"{size} {'tiled' if is_tiled else 'untiled'} {path.name}"
                pixels = clip.num_frames * clip.height * clip.width
                # Attention is quadratic, so larger frames take more than their share.
                if key in rows or kit.remaining() < max(60, 3 * pace * pixels) * (not kit.is_tiny):
                    continue
                row, frames = _measure(kit, path, clip, is_tiled=is_tiled)
                if frames is not None:
                    pace = max(pace, row["seconds"] / pixels)
                    if path.name == PLAIN:
                        plain = {key: frames}
                    elif path.name == EXACT and (beside := plain.get(key.replace(EXACT, PLAIN))) is not None:
                        row["max_difference_from_plain"] = float((frames - beside).abs().max())
                rows[key] = {"size": [clip.width, clip.height], "num_frames": clip.num_frames, **row}
                print(f"{key}: {row.get('seconds', row.get('error'))}", flush=True)
                kit.save(NAME, {"rows": rows})
    return set(rows) >= set(keys(is_tiny=kit.is_tiny))


def keys(*, is_tiny: bool = False) -> list[str]:
    """Names of all rows."""
    return [
        f"{size} {tiling} {path.name}"
        for size in (TINY_CLIPS if is_tiny else CLIPS)
        for tiling in ("untiled", "tiled")
        for path in paths(is_tiled=False)
    ]


def _measure(
    kit: Kit, path: Path, clip: Clip, *, is_tiled: bool
) -> tuple[dict[str, Any], torch.Tensor | None]:
    pixels = clip.height * clip.width
    if path.name == PLAIN and not is_tiled and pixels > MAX_PLAIN_PIXELS:
        return {"error": "the script cannot do this size without tiles"}, None
    release(kit.device)
    model = None
    try:
        model = load_random(kit, options=path.options, **path.loading)
        # From 1440p on a second run would take the time of another row.
        plan = _plan(kit, model, clip, is_tiled=is_tiled)
        return measure(model, clip, plan, has_warm_up=pixels < 1_000_000)
    except (PipelineError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error) and not kit.is_tiny:
            # Another row may still work; the error is an answer as well.
            return {"error": f"{type(error).__name__}: {error}"[:500]}, None
        if not isinstance(error, PipelineError) and not is_out_of_memory(error):
            raise
        return {"error": str(error)[:500]}, None
    finally:
        del model


def _plan(kit: Kit, model: DoveModel, clip: Clip, *, is_tiled: bool) -> ChunkPlan:
    """Whole frames, or tiles that the planner fits to the memory; the script has its own."""
    if model.options.vae_tiling != "plan":
        return DiffusionPlan()
    side = TINY_TILE if kit.is_tiny else TILE
    plan = model.plan(
        num_frames=clip.num_frames,
        size=clip.source,
        out_size=(clip.height, clip.width),
        tile=side if is_tiled else 0,
        chunk=clip.num_frames,
    )
    assert isinstance(plan, DiffusionPlan)
    if not is_tiled or plan.fit is None:
        return plan
    # A large card would decode whole frames all the same.
    return fitted_plan(plan.fit, plan.chunk_len, (side, side), (side, side), plan.tile_batch)
