"""Settings of the media tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _single_torch_thread() -> Iterator[None]:
    """Tiny pictures gain nothing from more threads, and on a busy machine waiting for them takes minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
