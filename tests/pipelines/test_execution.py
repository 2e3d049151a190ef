"""Frames on their way to the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from pipelines import execution
from pipelines.execution import FrameDtype, HostCopier, dequantize, quantize


@pytest.mark.parametrize(
    ("dtype", "error"), [("uint8", 0.5 / 255), ("uint16", 0.5 / 65535), ("float16", 2.5e-4), ("float32", 0)]
)
def test_frames_arrive_in_order_as_close_as_their_dtype_allows(dtype: FrameDtype, error: float) -> None:
    torch.manual_seed(0)
    batches = [torch.rand(f, 3, 5, 7) for f in (2, 1, 3)]
    arrived = list(HostCopier(dtype).copy(batches))
    assert [batch.dtype for batch in arrived] == [getattr(torch, dtype)] * 3
    for batch, original in zip(arrived, batches, strict=True):
        torch.testing.assert_close(dequantize(batch), original, atol=error + 1e-7, rtol=0)


def test_integers_hold_their_whole_range() -> None:
    ends = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    assert quantize(ends, "uint8").flatten()[:2].tolist() == [0, 255]
    assert quantize(ends, "uint16").flatten()[:2].tolist() == [0, 65535]


def test_frames_of_the_host_are_handed_on_at_once() -> None:
    made: list[int] = []

    def batches() -> Iterator[torch.Tensor]:
        for number in range(3):
            made.append(number)
            yield torch.full((1, 3, 2, 2), number / 2)

    for number, _ in enumerate(HostCopier("uint8").copy(batches())):
        assert made == list(range(number + 1))


@dataclass
class FakeEvent:
    """Ends a copy when it is waited for, as a GPU may."""

    host: torch.Tensor
    source: torch.Tensor

    def synchronize(self) -> None:
        self.host.copy_(self.source)


def test_a_copy_under_way_is_waited_for_while_the_device_makes_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def start(self: HostCopier, batch: torch.Tensor) -> Any:
        narrow = quantize(batch, self.dtype)
        host = torch.full_like(narrow, 99)  # what memory holds before the copy is through
        event: Any = FakeEvent(host, narrow)  # in the place of CUDA's
        return execution._Pending(host, narrow, event)

    def batches() -> Iterator[torch.Tensor]:
        for number in range(4):
            made.append(number)
            yield torch.full((1, 3, 2, 2), number / 255)

    monkeypatch.setattr(HostCopier, "_start", start)
    for number, frames in enumerate(HostCopier("uint8").copy(batches())):
        assert set(frames.flatten().tolist()) == {number}
        assert made == list(range(min(number + 2, 4)))


@pytest.mark.needs_cuda
def test_frames_of_a_gpu_arrive_whole() -> None:
    batches = [torch.rand(2, 3, 64, 64, device="cuda") for _ in range(8)]
    for frames, original in zip(HostCopier("uint8").copy(batches), batches, strict=True):
        assert torch.equal(frames, quantize(original, "uint8").cpu())
