"""What a GPU computes is what the CPU computes, whatever kernel does it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.clips import restore_clip
from pipelines.errors import BackendUnavailableError
from pipelines.loaders import load_model
from tests.gpu.models import BACKENDS, assert_close_in_half, frames_of, load, save
from tests.pipelines.tiny import make_clip

PATTERNS = ["full", "window"]
# These come with torch, so on a GPU there is no excuse for them.
BUILT_IN = frozenset({"auto", "flash", "efficient", "cudnn", "math"})


@pytest.fixture(params=PATTERNS)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(tmp_path / request.param, request.param)


def test_bfloat16_stays_close_to_float32_on_the_cpu(checkpoint: Path, device: torch.device) -> None:
    # Where a processor has no bfloat16 units, a single frame takes its time.
    num_frames, side = (1, 8) if device.type == "cpu" else (9, 16)
    expected = frames_of(load(checkpoint, torch.device("cpu")), num_frames=num_frames, side=side)
    model = load(checkpoint, device, dtype=torch.bfloat16)
    assert_close_in_half(frames_of(model, num_frames=num_frames, side=side), expected)


def test_float32_is_that_of_the_cpu(checkpoint: Path, device: torch.device) -> None:
    expected = frames_of(load(checkpoint, torch.device("cpu")))
    torch.testing.assert_close(frames_of(load(checkpoint, device)), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_attention_kernel_gives_the_same_frames(
    checkpoint: Path, device: torch.device, backend: Any
) -> None:
    if device.type == "cpu" and backend == "flex":
        pytest.skip("compiling takes long and is tested beside the kernel")
    # Flash and cuDNN compute in half precision on a GPU.
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    expected = frames_of(load(checkpoint, device, dtype=dtype))
    try:
        model = load(checkpoint, device, dtype=dtype, attention_backend=backend)
        frames = frames_of(model)
    except BackendUnavailableError as error:
        if device.type == "cuda" and backend in BUILT_IN:
            raise
        pytest.skip(str(error))
    assert_close_in_half(frames, expected)


@pytest.mark.parametrize(
    "options",
    [
        # On a CPU tests/pipelines/dove/test_runtime.py has it: compiling takes long there.
        pytest.param({"use_compile": True}, marks=[pytest.mark.slow, pytest.mark.needs_cuda]),
        pytest.param({"use_lossless_savings": False}),
    ],
    ids=str,
)
# Inductor's own imports use what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_options_change_no_more_than_kernels_do(
    checkpoint: Path, device: torch.device, options: dict[str, Any]
) -> None:
    expected = frames_of(load(checkpoint, device))
    frames = frames_of(load(checkpoint, device, **options))
    torch.testing.assert_close(frames, expected, atol=2e-3, rtol=0)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("backend", ["auto", "flash"])
def test_offloaded_parts_compute_the_same_and_leave_the_gpu(
    checkpoint: Path, cuda: torch.device, backend: Any
) -> None:
    expected = frames_of(load(checkpoint, cuda, dtype=torch.bfloat16))
    model = load(checkpoint, cuda, dtype=torch.bfloat16, use_offload=True, attention_backend=backend)
    assert_close_in_half(frames_of(model), expected)
    assert next(model.pipeline.transformer.parameters()).device.type == "cpu"
    assert next(model.pipeline.vae.parameters()).device.type == "cpu"


def test_two_clips_at_once_give_what_each_gives_alone(tmp_path: Path, device: torch.device) -> None:
    """Two threads of one process, each with its own model, as a worker beside a preview."""
    models = [load(save(tmp_path / pattern, pattern), device) for pattern in PATTERNS]
    expected = [frames_of(model) for model in models]
    together: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        is_cuda = device.type == "cuda"
        with torch.cuda.stream(torch.cuda.Stream(device) if is_cuda else None):
            together[number] = frames_of(models[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        torch.testing.assert_close(together[number], expected[number], atol=1e-4, rtol=0)


@pytest.mark.parametrize("tile", [0, 64], ids=["whole", "tiled"])
def test_the_propagating_restorer_gives_the_frames_of_the_cpu(tile: int, device: torch.device) -> None:
    clip, size = make_clip(5, 40, 48), (160, 192)
    frames = []
    for place in ("cpu", str(device)):
        model = load_model("dovetail-nano-2", device=place, dtype="float32", quantize="none")
        plan = model.plan(num_frames=5, size=(40, 48), out_size=size, tile=tile)
        frames.append(restore_clip(model, clip.to(model.device), size, plan=plan))
    torch.testing.assert_close(frames[1], frames[0], atol=2e-3, rtol=0)


@pytest.mark.needs_cuda
def test_the_second_gpu_works_alone(checkpoint: Path, cuda: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("this machine has one GPU")
    expected = frames_of(load(checkpoint, cuda))
    torch.cuda.reset_peak_memory_stats(0)
    before = torch.cuda.max_memory_allocated(0)
    frames = frames_of(load(checkpoint, torch.device("cuda:1")))
    torch.testing.assert_close(frames, expected, atol=1e-4, rtol=0)
    assert torch.cuda.max_memory_allocated(0) == before
