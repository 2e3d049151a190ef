"""The choice of the attention kernel, under every pattern."""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from pipelines.dove import components, kernels
from pipelines.dove.attention import FullPattern, JointAttention, set_attention, set_attention_kernel
from pipelines.dove.kernels import AttentionBackend, check_attention_backend, make_attention_kernel
from pipelines.dove.one_step import one_step
from pipelines.dove.pipeline import DovePipeline
from pipelines.errors import BackendUnavailableError, InvalidOptionError
from pipelines.planning.attention import AttentionSettings
from tests.pipelines.dove.test_attention import tiny_transformer
from tests.pipelines.dove.test_one_step import make_scheduler
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano
from tests.thorough import sized


@pytest.fixture
def fake_packages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """xformers and sageattention in terms of torch, each in its own layout; what was called is noted."""
    calls: list[str] = []

    def memory_efficient_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        calls.append("xformers")
        query, key, value = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)

    def sageattn(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tensor_layout: str, is_causal: bool
    ) -> torch.Tensor:
        assert tensor_layout == "HND"
        assert not is_causal
        calls.append("sage")
        return F.scaled_dot_product_attention(q, k, v)

    modules: dict[str, dict[str, Any]] = {
        "xformers": {},
        "xformers.ops": {"memory_efficient_attention": memory_efficient_attention},
        "sageattention": {"sageattn": sageattn},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def save_2b(folder: Path) -> Path:
    return save_checkpoint(folder, "2b")


@pytest.mark.parametrize("backend", ["xformers", "sage", "math", "flash"])
@pytest.mark.parametrize("save", [save_checkpoint, save_2b, save_nano])
def test_every_kernel_works_under_every_pattern(
    backend: AttentionBackend, save: Any, fake_packages: list[str], tmp_path: Path
) -> None:
    pipeline = DovePipeline.from_checkpoint(save(tmp_path / "checkpoint"))
    clip = make_clip(2, 8, 16)
    expected = pipeline(clip, height=32, width=64).frames
    set_attention_kernel(pipeline.transformer, backend)
    frames = pipeline(clip, height=32, width=64).frames
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=0)
    if backend in ("xformers", "sage"):
        assert set(fake_packages) == {backend}


@pytest.mark.parametrize(
    "attention",
    [
        {"pattern": "window+global", "window": [2, 2], "pool": 2},
        {"pattern": "sparse", "window": [1, 2, 2]},
        {"pattern": "routed", "heads": [["global", "window"], ["frame", "window"]], "tile": [1, 2, 2]},
    ],
)
def test_so_does_it_under_those_of_boxes_and_cells(attention: Any, fake_packages: list[str]) -> None:
    transformer = tiny_transformer()
    set_attention(transformer, AttentionSettings.model_validate(attention))
    outputs = []
    for backend in ("auto", "xformers", "sage"):
        set_attention_kernel(transformer, backend)
        latents = torch.randn(1, 4, 4, 6, 10, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            outputs.append(
                one_step(transformer, make_scheduler(), latents, torch.zeros(1, 2, 8), timestep=399)
            )
    assert set(fake_packages) == {"xformers", "sage"}
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=0)


def test_torchs_kernel_in_our_processor_has_diffusers_bits(tmp_path: Path) -> None:
    pipeline = DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove"), use_lossless_savings=False)
    clip = make_clip(2, 8, 8)
    expected = pipeline(clip, height=32, width=32).frames
    for block in pipeline.transformer.transformer_blocks:
        assert isinstance(block.attn1.processor, JointAttention)
        assert block.attn1.processor.pattern == FullPattern()
        block.attn1.set_processor(CogVideoXAttnProcessor2_0())
    assert torch.equal(pipeline(clip, height=32, width=32).frames, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_flex_attention_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Inductor's C++ for it takes half a minute, and is torch's own.
    compiler = sized("inductor", brief="aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    monkeypatch.setattr(kernels, "_flex_kernel", kernels._flex_kernel.__wrapped__)
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 64, 32) for _ in range(3))
    expected = F.scaled_dot_product_attention(query, key, value)
    attended = make_attention_kernel("flex")(query, key, value)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["xformers", "cudnn", "efficient", "sage"])
def test_kernels_of_a_gpu_can_be_chosen_for_one(
    backend: AttentionBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the choice was checked while the weights were still on the CPU."""
    folder = save_checkpoint(tmp_path / "dove")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(components, "choose_device", torch.device)
    monkeypatch.setattr(components, "tune_kernels", lambda _, **options: None)
    chosen: list[str] = []
    monkeypatch.setattr(
        components, "set_attention_kernel", lambda transformer, backend: chosen.append(backend)
    )

    def pretend(self: DovePipeline, device: torch.device) -> DovePipeline:
        monkeypatch.setattr(DovePipeline, "_execution_device", device)
        return self

    monkeypatch.setattr(DovePipeline, "to", pretend)
    monkeypatch.setattr(DovePipeline, "_execution_device", torch.device("cpu"))
    DovePipeline.from_checkpoint(folder, device="cuda", dtype=torch.bfloat16, attention_backend=backend)
    assert chosen == [backend]


@pytest.mark.parametrize("backend", ["flash", "cudnn", "sage"])
def test_a_dtype_that_a_kernel_cannot_do_is_refused_at_load(
    backend: AttentionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(BackendUnavailableError, match=r"bfloat16 or float16 on a GPU, float32 was asked for"):
        check_attention_backend(backend, "cuda", torch.float32)
    check_attention_backend(backend, "cuda", torch.bfloat16)


def test_flash_on_the_cpu_takes_float32() -> None:
    check_attention_backend("flash", "cpu", torch.float32)


def test_a_kernel_that_torch_does_not_have_says_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("No available kernel. Aborting execution.")

    heads = torch.zeros(1, 1, 4, 8)
    monkeypatch.setattr(F, "scaled_dot_product_attention", refuse)
    with pytest.raises(BackendUnavailableError, match="'flash' cannot compute float32 heads of 8 channels"):
        make_attention_kernel("flash")(heads, heads, heads)


@pytest.mark.parametrize("backend", ["xformers", "sage"])
def test_absent_packages_are_said_with_the_way_to_get_them(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendUnavailableError, match="pip install"):
        check_attention_backend(backend, "cuda")


def test_unknown_kernels_are_an_error_of_their_own() -> None:
    with pytest.raises(InvalidOptionError, match="choose one of auto, flash"):
        check_attention_backend("fast", "cpu")
