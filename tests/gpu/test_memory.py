"""Where memory ends, work goes on in smaller tiles, and estimates are not too small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.gpu.models import TINY, Clip, measure
from benchmarks.real_size.layout import Layout
from benchmarks.real_size.weights import DESCRIPTION, make_checkpoint
from pipelines.clips import stream_chunks
from pipelines.dove.geometry import Geometry
from pipelines.dove.model import DoveModel
from pipelines.dove.pipeline import DovePipeline
from pipelines.execution import MemoryRetry, restore_chunk
from pipelines.loaders import load_model
from pipelines.model import ModelCard
from tests.gpu.models import load, roomy_plan, save
from tests.pipelines.tiny import make_clip
from tests.thorough import sized

SIDE, NUM_FRAMES, CHUNK = 40, 12, 9


def allocation_error(device: torch.device) -> RuntimeError:
    if device.type == "cuda":
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    return RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory")


def fail_once(owner: Any, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the first call of a method end like an allocation that fails."""
    method: Callable[..., Any] = getattr(owner, name)
    pending = [error]

    def call(*args: Any, **kwargs: Any) -> Any:
        if pending:
            raise pending.pop()
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def break_part(model: DoveModel, part: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: dict[str, tuple[Any, str]] = {
        "encoder": (model.pipeline.vae.encoder, "forward"),
        "transformer": (model.pipeline.transformer, "forward"),
        "decoder": (model.pipeline.vae.decoder, "forward"),
        "finish": (Geometry, "finish"),
    }
    fail_once(*owners[part], allocation_error(device), monkeypatch)


PARTS = ["encoder", "transformer", "decoder", "finish"]


# On the CPU `tests/pipelines/dove/test_pipeline.py` has the others.
@pytest.mark.parametrize("part", PARTS if torch.cuda.is_available() else sized(PARTS, brief=["finish"]))
def test_memory_that_ends_in_any_part_makes_tiles_smaller_and_leaves_chunks_as_they_are(
    part: str, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(save(tmp_path / "dove", "full"), device)
    plan = roomy_plan(model, num_frames=NUM_FRAMES, side=SIDE, chunk=CHUNK)
    clip, retries, lengths = make_clip(NUM_FRAMES, SIDE, SIDE).to(device), list[MemoryRetry](), list[int]()
    break_part(model, part, device, monkeypatch)

    def restore(frames: torch.Tensor) -> Any:
        lengths.append(frames.shape[0])
        return restore_chunk(model, frames, (4 * SIDE, 4 * SIDE), plan, on_retry=retries.append)

    chunks = model.chunks(NUM_FRAMES, plan)
    frames = torch.stack(list(stream_chunks(clip, chunks, restore)))
    assert frames.shape == (NUM_FRAMES, 3, 4 * SIDE, 4 * SIDE)
    assert frames.isfinite().all()
    assert len(retries) == 1
    assert lengths == [len(chunk) for chunk in chunks]
    assert retries[0].smaller.chunk_len == plan.chunk_len == CHUNK
    assert retries[0].smaller.estimated_bytes <= plan.estimated_bytes
    assert retries[0].part == (part if part in ("transformer", "finish") else "vae")


@pytest.mark.needs_cuda
def test_a_card_with_too_little_memory_still_gives_every_frame(tmp_path: Path, cuda: torch.device) -> None:
    model = load(save(tmp_path / "dove", "full"), cuda, dtype=torch.bfloat16)
    side, num_frames = 480, 9
    plan = roomy_plan(model, num_frames=num_frames, side=side, chunk=num_frames)
    clip, retries = make_clip(num_frames, side, side).to(cuda), list[MemoryRetry]()
    _, total = torch.cuda.mem_get_info(cuda)
    allowed = torch.cuda.memory_allocated(cuda) + 9 * plan.estimated_bytes // 10
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(allowed / total, 1.0), cuda)
    try:
        batches = restore_chunk(model, clip, (4 * side, 4 * side), plan, on_retry=retries.append)
        frames = torch.cat([batch.cpu() for batch in batches])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, cuda)
    assert frames.shape == (num_frames, 3, 4 * side, 4 * side)
    assert frames.isfinite().all()


def random_model(layout: Layout, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> DoveModel:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    loaded = make_checkpoint(layout, device, dtype=dtype)
    monkeypatch.setattr("pipelines.dove.components.load_checkpoint", lambda *_, **__: loaded)
    pipeline = DovePipeline.from_checkpoint("random", device=device, dtype=dtype)
    card = ModelCard(name=DESCRIPTION["name"], kind="diffusion", scale=4)
    return DoveModel(pipeline, card, device=device, dtype=dtype)


@pytest.mark.parametrize("tile", [0, None], ids=["whole", "planned"])
def test_real_sizes_stay_below_the_estimate(
    tile: int | None, device: torch.device, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """Two layers of the real width on a GPU at 720p; a toy on the CPU."""
    is_cuda = device.type == "cuda"
    model = random_model(Layout(num_layers=2) if is_cuda else TINY, device, monkeypatch)
    clip = Clip(720, 1280) if is_cuda else Clip(64, 96, 9)
    plan = model.plan(
        num_frames=clip.num_frames,
        size=clip.source,
        out_size=(clip.height, clip.width),
        chunk=clip.num_frames,
        tile=tile,
    )
    values, _ = measure(model, clip, plan, has_warm_up=False)
    for name in ("seconds", "estimated_bytes", "peak_bytes"):
        record_property(name, values[name])
    assert values["is_finite"]
    assert not values["retries"]
    assert values["peak_bytes"] <= values["estimated_bytes"]


def test_the_embedded_pipeline_runs_at_the_size_of_uploads(
    device: torch.device, record_property: Any
) -> None:
    """720p out on a GPU, a corner of it on the CPU."""
    model = load_model(
        "dovetail-dit-nano", device=str(device), dtype="bfloat16" if device.type == "cuda" else "float32"
    )
    assert isinstance(model, DoveModel)
    clip = Clip(720, 1280, 16) if device.type == "cuda" else Clip(64, 96, 4)
    plan = model.plan(
        num_frames=clip.num_frames,
        size=clip.source,
        out_size=(clip.height, clip.width),
        chunk=clip.num_frames,
    )
    values, frames = measure(model, clip, plan, has_warm_up=device.type == "cuda")
    record_property("frames_per_second", values["frames_per_second"])
    record_property("peak_bytes", values["peak_bytes"])
    assert frames.shape == (clip.num_frames, 3, clip.height, clip.width)
    assert values["is_finite"]
    assert not values["retries"]


@pytest.mark.needs_cuda
@pytest.mark.parametrize("is_channels_last", [False, True])
def test_bfloat16_convolutions_need_no_more_than_their_result(
    is_channels_last: bool, cuda: torch.device, record_property: Any
) -> None:
    """Recent cuDNN is reported to take three times the memory (torch 2.9 and later).

    The factor is recorded; it only fails where a plan would be wrong by more than the planner's margin.
    """
    layout = torch.channels_last_3d if is_channels_last else torch.contiguous_format
    sample = torch.randn(1, 128, 10, 256, 256, device=cuda).bfloat16().contiguous(memory_format=layout)
    kernel = torch.randn(128, 128, 3, 3, 3, device=cuda).bfloat16().contiguous(memory_format=layout)
    F.conv3d(sample, kernel, padding=(0, 1, 1))
    torch.cuda.synchronize(cuda)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(cuda)
    before = torch.cuda.memory_allocated(cuda)
    result = F.conv3d(sample, kernel, padding=(0, 1, 1))
    torch.cuda.synchronize(cuda)
    used = torch.cuda.max_memory_allocated(cuda) - before
    factor = used / (result.numel() * result.element_size())
    record_property("conv3d_memory_factor", f"{factor:.2f}")
    assert factor < 4
