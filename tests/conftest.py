"""Fixtures and markers that all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from structlog.dev import plain_traceback

from tests import forked_python
from tests.scheduling import place_of

pytest_plugins = ["tests.processes"]

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


def pytest_collection_finish() -> None:
    # Not before: what tests import (OpenCV) changes variables that programs are compared by.
    forked_python.install()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported is no garbage: looking for some in it takes a tenth of the time, now and later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(item.nodeid))
    skip_shared = pytest.mark.skip(reason=f"{SHARED} is not here")
    for item in items:
        if "needs_shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(skip_shared)
    needs_cuda = [item for item in items if "needs_cuda" in item.keywords]
    if needs_cuda and os.environ.get("DOVETAIL_REQUIRE_CUDA") != "1":
        import torch

        if not torch.cuda.is_available():
            for item in needs_cuda:
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))
