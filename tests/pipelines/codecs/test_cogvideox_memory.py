"""What the prepared VAE holds at once, counted on the meta device with the real widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.codecs.cogvideox_layers import MAX_INDEX, CausalConv3d, group_norm
from pipelines.codecs.cogvideox_resampling import frame_pieces
from pipelines.codecs.cogvideox_vae import decode_batches, encode_moments, prepare_vae
from pipelines.memory_tracking import peak_memory
from pipelines.planning.shapes import (
    DECODE_ELEMENTS,
    ENCODE_ELEMENTS,
    IMAGE_DECODE_ELEMENTS,
    IMAGE_ENCODE_ELEMENTS,
)

META = torch.device("meta")
WIDEST = 128
SIZES = [(128, 128), (720, 1280), (2160, 3840)]


@pytest.fixture(scope="module")
def vae() -> Any:
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(WIDEST, 256, 256, 512),
            layers_per_block=3,
        )
    vae = vae.to(torch.bfloat16).eval()
    prepare_vae(vae)
    return vae


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(1, *shape, dtype=torch.bfloat16, device="meta")


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("num_frames", "decode_elements", "encode_elements"),
    [
        (33, DECODE_ELEMENTS, ENCODE_ELEMENTS),
        (9, DECODE_ELEMENTS, ENCODE_ELEMENTS),
        (1, IMAGE_DECODE_ELEMENTS, IMAGE_ENCODE_ELEMENTS),
    ],
)
@torch.no_grad()
def test_estimates_are_above_the_counted_peaks_and_not_by_much(
    vae: Any, height: int, width: int, num_frames: int, decode_elements: int, encode_elements: int
) -> None:
    per_channel = height * width * WIDEST * 2
    with peak_memory(META) as decoding:
        for batch in decode_batches(vae, empty(16, num_frames // 4 + 1, height // 8, width // 8)):
            del batch
    with peak_memory(META) as encoding:
        encode_moments(vae, empty(3, num_frames, height, width))
    for peak, elements in (
        (decoding.num_bytes, decode_elements),
        (encoding.num_bytes, encode_elements),
    ):
        assert peak <= elements * per_channel <= 1.2 * peak


class LargestInputs(TorchDispatchMode):
    """The largest tensor that each kernel with a 32-bit index sees."""

    KERNELS = ("convolution", "upsample_nearest", "native_group_norm")

    def __init__(self) -> None:
        super().__init__()
        self.num_elements: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for kernel in self.KERNELS:
            if kernel in str(func):
                first = result[0] if isinstance(result, tuple) else result
                largest = max(args[0].numel(), first.numel())
                self.num_elements[kernel] = max(self.num_elements.get(kernel, 0), largest)
        return result


@torch.no_grad()
def test_no_kernel_sees_more_than_a_32_bit_index_reaches_in_an_untiled_4k_frame(vae: Any) -> None:
    with LargestInputs() as seen:
        for batch in decode_batches(vae, empty(16, 3, 270, 480)):
            del batch
        encode_moments(vae, empty(3, 9, 2160, 3840))
    assert set(seen.num_elements) == set(LargestInputs.KERNELS)
    assert max(seen.num_elements.values()) <= MAX_INDEX


@pytest.mark.parametrize("num_rows", [1, 2, 5])
@torch.no_grad()
def test_convolution_in_bands_of_rows_is_that_of_the_whole(num_rows: int) -> None:
    conv = CausalConv3d(nn.Conv3d(4, 3, 3, padding=(0, 1, 1)))
    inputs = torch.randn(1, 4, 3, 11, 7)
    whole = conv.convolve(inputs)
    conv.max_index = 4 * 3 * 7 * num_rows
    torch.testing.assert_close(conv.convolve(inputs), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [1, 200, 500, 10_000])
def test_norm_in_sets_of_groups_has_the_same_bits(limit: int) -> None:
    norm = nn.GroupNorm(6, 12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(1, 12, 3, 5, 7)
    assert torch.equal(group_norm(norm, x, max_elements=limit), norm(x))


@pytest.mark.parametrize(
    ("num_frames", "frame_elements", "limit", "expected"),
    [
        (9, 10, 1000, [(0, 9)]),
        (9, 10, 40, [(0, 4), (4, 9)]),
        (3, 10, 10, [(0, 3)]),
        (5, 10, 10, [(0, 2), (2, 5)]),
        (3, MAX_INDEX, 10, [(0, 1), (1, 2), (2, 3)]),
        (1, 10, 10, [(0, 1)]),
    ],
)
def test_frames_pass_a_kernel_in_company(
    num_frames: int, frame_elements: int, limit: int, expected: list[tuple[int, int]]
) -> None:
    assert frame_pieces(num_frames, frame_elements, limit) == expected
