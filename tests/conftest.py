"""Fixtures and markers that all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# Shared machines stall for seconds: a deadline there tests the machine.
settings.register_profile("dovetail", deadline=None)
settings.load_profile("dovetail")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
WHOLE = "tests/whole/"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Clips and golden outputs beside the checkout, only read; tests that use it carry `needs_shared`."""
    return SHARED


class _Scheduling(LoadFileScheduling):
    """The tests of a file share a process, those of a whole installation share one installation."""

    def _split_scope(self, nodeid: str) -> str:
        return WHOLE if nodeid.startswith(WHOLE) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """How `pytest -n` shares out the tests."""
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They take longest, so they begin first.
    items.sort(key=lambda item: not item.nodeid.startswith(WHOLE))
    skip_shared = pytest.mark.skip(reason=f"{SHARED} is not here")
    skip_cuda = pytest.mark.skip(reason="no CUDA GPU")
    is_cuda_required = os.environ.get("DOVETAIL_REQUIRE_CUDA") == "1"
    for item in items:
        if "needs_shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(skip_shared)
        if "needs_cuda" in item.keywords and not torch.cuda.is_available() and not is_cuda_required:
            item.add_marker(skip_cuda)
