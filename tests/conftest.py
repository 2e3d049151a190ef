"""Fixtures and markers that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from hypothesis import settings
from structlog.dev import plain_traceback

# Shared machines stall for seconds: a deadline there tests the machine.
settings.register_profile("dovetail", deadline=None)
settings.load_profile("dovetail")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> Iterator[None]:
    """structlog's default draws tracebacks with all variables, which stops a server for half a minute."""
    structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=plain_traceback)])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Clips and golden outputs beside the checkout, only read; tests that use it carry `needs_shared`."""
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They take longest, so they begin first.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/whole/"))
    skip_shared = pytest.mark.skip(reason=f"{SHARED} is not here")
    skip_cuda = pytest.mark.skip(reason="no CUDA GPU")
    is_cuda_required = os.environ.get("DOVETAIL_REQUIRE_CUDA") == "1"
    for item in items:
        if "needs_shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(skip_shared)
        if "needs_cuda" in item.keywords and not torch.cuda.is_available() and not is_cuda_required:
            item.add_marker(skip_cuda)
