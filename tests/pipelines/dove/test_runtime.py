"""Kernels, devices and memory."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload_with_hook

from pipelines.devices import available_memory, choose_device
from pipelines.dove import runtime
from pipelines.dove.pipeline import DovePipeline
from pipelines.dove.runtime import check_attention_backend, use_xformers
from pipelines.errors import BackendUnavailableError, is_out_of_memory
from pipelines.planning.diffusion_plan import DiffusionPlan
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano


@pytest.fixture
def fake_xformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """xformers' one function in terms of torch's, with its own layout (B, L, heads, head_dim)."""

    def memory_efficient_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)

    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = memory_efficient_attention  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


@pytest.mark.usefixtures("fake_xformers")
@pytest.mark.parametrize("layout", ["1.5-5b", "2b"])
def test_xformers_processor_computes_the_same_attention(layout: str, tmp_path: Path) -> None:
    pipeline = DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove", layout))
    clip = make_clip(2, 8, 8)
    expected = pipeline(clip, height=32, width=32).frames
    use_xformers(pipeline.transformer)
    torch.testing.assert_close(pipeline(clip, height=32, width=32).frames, expected, atol=1e-5, rtol=0)


def test_xformers_refuses_windows(tmp_path: Path) -> None:
    pipeline = DovePipeline.from_checkpoint(save_nano(tmp_path / "nano"))
    with pytest.raises(BackendUnavailableError, match="windows"):
        use_xformers(pipeline.transformer)


def test_absent_xformers_is_said_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendUnavailableError, match="pip install"):
        check_attention_backend("xformers", "cuda")


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


@pytest.mark.slow
# Inductor's own imports use what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_compiled_blocks_differ_by_kernel_noise_only(tmp_path: Path) -> None:
    folder, clip = save_checkpoint(tmp_path / "dove"), make_clip(2, 8, 8)
    frames = [
        DovePipeline.from_checkpoint(folder, use_compile=use_compile)(
            clip, height=32, width=32, plan=DiffusionPlan()
        ).frames
        for use_compile in (False, True)
    ]
    torch.testing.assert_close(frames[1], frames[0], atol=1e-4, rtol=0)


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
