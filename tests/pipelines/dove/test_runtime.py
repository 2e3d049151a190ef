"""Compilation, devices and memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload_with_hook

from pipelines.devices import DEVICE_MEMORY_SHARE, available_memory, choose_device
from pipelines.dove.pipeline import DovePipeline
from pipelines.dove.runtime import tune_kernels
from pipelines.errors import BackendUnavailableError, is_out_of_memory
from pipelines.planning.diffusion_plan import DiffusionPlan
from tests.pipelines.tiny import make_clip, make_vae, save_checkpoint, save_nano
from tests.thorough import sized


def test_offload_hooks_run_for_the_vae_although_its_forward_is_never_called(tmp_path: Path) -> None:
    pipeline = DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove"))
    clip = make_clip(2, 8, 8)
    expected = pipeline(clip, height=32, width=32).frames
    _, first = cpu_offload_with_hook(pipeline.transformer, "cpu")
    _, second = cpu_offload_with_hook(pipeline.vae, "cpu", prev_module_hook=first)
    moved: list[str] = []
    hook = pipeline.vae._hf_hook
    pre_forward = hook.pre_forward

    def spy(module: torch.nn.Module, *args: object) -> object:
        moved.append(type(module).__name__)
        return pre_forward(module, *args)

    hook.pre_forward = spy
    pipeline._all_hooks = [first, second]
    assert torch.equal(pipeline(clip, height=32, width=32).frames, expected)
    assert moved == ["AutoencoderKLCogVideoX"] * 2


# Checkpoint, frames and compiler.
COMPILED = [
    # Traced whole, in two batches of the VAE, so that the second has caches. Inductor takes three minutes of
    # a core for its kernels: it passed by hand, and is tested on GPUs (tests/gpu).
    (partial(save_checkpoint, vae=make_vae(block_out_channels=(4, 4, 4, 4))), 17, "aot_eager"),
    (save_nano, 2, "inductor"),
]
# Inductor's kernels are torch's own, and take half a minute; tests/pipelines/per_frame always makes some.
BRIEFLY_COMPILED = [(save_nano, 2, "aot_eager")]


@pytest.mark.slow
# Inductor's own imports use what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize(("save", "num_frames", "backend"), sized(COMPILED, brief=BRIEFLY_COMPILED))
def test_compiled_blocks_run_and_differ_by_kernel_noise_only(
    save: Any, num_frames: int, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    folder, clip = save(tmp_path / "checkpoint"), make_clip(num_frames, 4, 8)
    plain = DovePipeline.from_checkpoint(folder)
    compiled = DovePipeline.from_checkpoint(folder, use_compile=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    frames = [p(clip, height=16, width=32, plan=DiffusionPlan()).frames for p in (plain, compiled)]
    counters = torch._dynamo.utils.counters
    assert counters["frames"]["ok"] == counters["frames"]["total"] > 0
    assert not counters["graph_break"]
    torch.testing.assert_close(frames[1], frames[0], atol=1e-4, rtol=0)


def test_offloading_plans_for_the_time_when_the_largest_part_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove"))
    free = 10**9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    monkeypatch.setattr(DovePipeline, "_execution_device", torch.device("cuda"))
    # Weights that stay where they are were there when the memory was read.
    assert pipeline.free_memory() == available_memory("cuda") == int(free * DEVICE_MEMORY_SHARE)
    for part in (pipeline.transformer, pipeline.vae):
        part._hf_hook = object()
    sizes = [
        sum(x.nbytes for x in [*part.parameters(), *part.buffers()])
        for part in (pipeline.transformer, pipeline.vae)
    ]
    assert pipeline.free_memory() == int((free - max(sizes)) * DEVICE_MEMORY_SHARE)
    assert available_memory("cuda", arriving_bytes=2 * free) == 0


def test_convolutions_are_timed_where_a_gpu_runs_them_if_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    tune_kernels(torch.device("cpu"))
    assert not torch.backends.cudnn.benchmark
    tune_kernels(torch.device("cuda"))
    assert torch.backends.cudnn.benchmark
    tune_kernels(torch.device("cuda"), use_cudnn_benchmark=False)
    assert not torch.backends.cudnn.benchmark


def test_memory_of_the_host_is_a_share_of_what_is_free() -> None:
    assert 0 < available_memory("cpu") < 2**50


def test_devices_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailableError, match="no CUDA GPU"):
        choose_device("cuda")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), True),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
)
def test_allocation_failures_are_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_failed_allocation_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
