"""(c) Each option alone, beside the same run without it. A new option is a new line in `ITEMS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from benchmarks.gpu.kit import Kit, rounded
from benchmarks.gpu.models import Clip, load_random, measure, release, to_host
from benchmarks.vae_steps import use_both, use_channels_last, use_larger_steps
from pipelines.codecs.cogvideox_vae import compile_vae_blocks
from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.errors import PipelineError

NAME = "items"
BASELINE = "baseline"
CLIP, TINY_CLIP = Clip(720, 1280), Clip(64, 64, 9)


@dataclass(frozen=True)
class Item:
    """One departure from the baseline.

    Attributes:
        name: In the table.
        what: What it does, in a few words.
        loading: As for `DovePipeline.from_checkpoint`.
        options: Of the call; None for the recommended ones.
        prepare: Changes the VAE of the loaded model.
        deliver: Brings finished frames to the host.
        num_frames: Of the chunk.
        overlap: Frames of it that the next chunk computes again.
    """

    name: str
    what: str
    loading: dict[str, Any] = field(default_factory=dict)
    options: DoveOptions | None = None
    prepare: Callable[[Any], None] = lambda vae: None
    deliver: Callable[[Tensor], Tensor] = to_host
    num_frames: int = 33
    overlap: int = 9


def to_host_uint8(frames: Tensor) -> Tensor:
    """Frames as 8 bits through pinned memory."""
    levels = (frames * 255).round().clamp(0, 255).to(torch.uint8)
    if levels.device.type != "cuda":
        return levels
    pinned = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=True)
    return pinned.copy_(levels, non_blocking=True)


ITEMS = (
    Item(BASELINE, "recommended options, untiled"),
    Item(
        "use_lossless_savings=False", "constants not folded, diffusers' VAE", {"use_lossless_savings": False}
    ),
    Item("use_compile", "blocks of the transformer and the VAE compiled", {"use_compile": True}),
    Item("compiled VAE", "blocks of the VAE alone compiled", prepare=compile_vae_blocks),
    Item("channels last", "kernels of the VAE in NDHWC", prepare=use_channels_last),
    Item("larger steps", "16 frames at once through the VAE's decoder", prepare=use_larger_steps),
    Item("larger steps, channels last", "both", prepare=use_both),
    Item("use_cudnn_benchmark=False", "cuDNN guesses the fastest kernels", {"use_cudnn_benchmark": False}),
    Item("no colour matching", "color_match='none'", options=DoveOptions(color_match="none")),
    Item("uint8 to the host", "8 bits through pinned memory", deliver=to_host_uint8),
    Item("49 frames", "longer chunk, the same overlap", num_frames=49),
    Item("73 frames", "longer chunk, the same overlap", num_frames=73),
    Item("quantize int8", "weights of linears in int8", {"quantize": "int8"}),
    Item("quantize fp8", "linears in fp8", {"quantize": "fp8"}),
    Item("use_offload", "parts in host memory while they rest", {"use_offload": True}),
)


def all_items() -> list[Item]:
    """`ITEMS`, every attention kernel, and every switch of the pipeline that no item names."""
    items = list(ITEMS)
    backends = get_args(get_type_hints(DovePipeline.set_attention_backend)["backend"])
    items += [
        Item(f"attention {name}", "attention kernel", {"attention_backend": name})
        for name in backends
        if name != "auto"
    ]
    named = {option for item in items for option in item.loading}
    switches = inspect.signature(DovePipeline.from_checkpoint).parameters
    items += [
        Item(name, "a switch of the pipeline", {name: not parameter.default})
        for name, parameter in switches.items()
        if name.startswith("use_") and name not in named
    ]
    return items


def answer(kit: Kit) -> bool:
    """Measures items that are not measured yet, while there is time.

    Returns:
        Whether all are measured.
    """
    rows: dict[str, Any] = dict(kit.load(NAME).get("rows", {}))
    items = all_items()
    # Ratios compare runs of one process.
    if missing := [item for item in items if item.name not in rows]:
        missing = [items[0], *(item for item in missing if item.name != BASELINE)]
    slowest = 0.0
    baseline: dict[str, Any] = {}
    for item in missing:
        if kit.remaining() < max(60, 4 * slowest) * (not kit.is_tiny):
            break
        row = _measure(kit, item)
        if item.name == BASELINE:
            baseline = row
        if "seconds" in row and "seconds" in baseline:
            row["speed"] = rounded(baseline["seconds_per_new_frame"] / row["seconds_per_new_frame"])
            slowest = max(slowest, row["seconds"], row["first_seconds"])
        rows[item.name] = row
        print(f"{item.name}: {row.get('speed', row.get('error'))}", flush=True)
        kit.save(NAME, {"rows": rows})
    return {item.name for item in items} <= set(rows)


def _measure(kit: Kit, item: Item) -> dict[str, Any]:
    clip = TINY_CLIP if kit.is_tiny else Clip(CLIP.height, CLIP.width, item.num_frames)
    release(kit.device)
    model = None
    try:
        model = load_random(kit, options=item.options, **item.loading)
        item.prepare(model.pipeline.vae)
        plan = model.plan(
            num_frames=clip.num_frames,
            size=clip.source,
            out_size=(clip.height, clip.width),
            tile=0,
            chunk=clip.num_frames,
        )
        row, _ = measure(model, clip, plan, deliver=item.deliver)
    except (PipelineError, RuntimeError, ImportError, AttributeError, TypeError) as error:
        # What does not run here is an answer too; what is broken shows in the tests.
        return {"what": item.what, "error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        del model
    new_frames = max(clip.num_frames - item.overlap, 1)
    return {"what": item.what, "seconds_per_new_frame": rounded(row["seconds"] / new_frames), **row}
