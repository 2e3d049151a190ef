"""Every test here runs on the CPU as well where that makes sense, so that it cannot rot unseen."""

from __future__ import annotations

import pytest
import torch

# On the CPU first: what fails there has nothing to do with a GPU.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def cuda() -> torch.device:
    """For tests that carry `needs_cuda`."""
    assert torch.cuda.is_available(), "a GPU is required here and torch finds none"
    return torch.device("cuda")
