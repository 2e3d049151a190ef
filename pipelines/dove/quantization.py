"""Linears of the transformer in 8 bits, through torchao.

Attention's and the feed-forward's linears hold 99.6 % of a frozen CogVideoX1.5-5B: 9.5 GB in bfloat16, half
of that here. What embeds tokens, norms and the last projection stay as they are.

`int8` stores weights alone in 8 bits, one scale per output channel: less memory, on any device. `fp8` has
activations in 8 bits too, one scale per token, and multiplies them so: on GPUs of compute capability 8.9.
`auto` is `none`: what they cost a trained checkpoint of that size was not measured.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from pipelines.devices import Quantize, check_quantize
from pipelines.errors import BackendUnavailableError

# Ada and Hopper: the first with float8 tensor cores.
FP8_CAPABILITY = (8, 9)


def is_quantized(quantize: str) -> bool:
    """Whether linears are in 8 bits."""
    return quantize not in ("auto", "none")


def check_quantization(quantize: str, device: torch.device, dtype: torch.dtype) -> None:
    """Refuses what cannot run, before anything is loaded.

    Args:
        quantize: One of `Quantize`.
        device: Where the pipeline will run.
        dtype: Of its activations.

    Raises:
        InvalidOptionError: If there is no such value.
        BackendUnavailableError: If torchao, or a device or dtype that it needs, is not there.
    """
    check_quantize(quantize)
    if not is_quantized(quantize):
        return
    if importlib.util.find_spec("torchao") is None:
        raise BackendUnavailableError(
            f"quantize {quantize!r} needs the torchao package (pip install 'dovetail-vsr[quantization]')"
        )
    if quantize == "fp8":
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
            raise BackendUnavailableError(
                "quantize 'fp8' needs a GPU of compute capability 8.9 or more (Ada, Hopper), the pipeline is "
                f"on {device}; use 'int8'"
            )
        if dtype != torch.bfloat16:
            raise BackendUnavailableError(f"quantize 'fp8' computes bfloat16, {dtype} was asked for")


def quantize_linears(transformer: Any, quantize: Quantize) -> None:
    """Replaces the weights of attention and feed-forward; to callers they have the same shape and dtype.

    Args:
        transformer: A `CogVideoXTransformer3DModel` with its projections fused or not, on any device; changed
            in place. Its weights cannot be read as plain tensors or saved from then on.
        quantize: Passed `check_quantization`.
    """
    if not is_quantized(quantize):
        return
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8WeightOnlyConfig,
        PerRow,
        quantize_,
    )
    from torchao.quantization.quantize_.common import KernelPreference

    # Inductor's settings are the process's, and among them is TF32 for everything that runs beside.
    config: Any = Int8WeightOnlyConfig(granularity=PerRow(), set_inductor_config=False)
    if quantize == "fp8":
        # torch's kernels, so that results do not depend on which packages are installed.
        config = Float8DynamicActivationFloat8WeightConfig(
            granularity=PerRow(), kernel_preference=KernelPreference.TORCH, set_inductor_config=False
        )
    for block in transformer.transformer_blocks:
        quantize_(block.attn1, config)
        quantize_(block.ff, config)
