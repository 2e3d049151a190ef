"""Which tests run in one process, one after another, and which begin first."""

from __future__ import annotations

# Tests that share something expensive: an installation, a browser.
ONE_PROCESS = ("tests/whole/", "tests/web/")
# They wait more than they compute, so they begin first and leave time to those that compute.
FIRST = (
    *ONE_PROCESS,
    "tests/test_kills.py",
    "tests/workers/",
    "tests/training/",
    "tests/service/",
    "tests/client/",
)


def group_of(nodeid: str) -> str:
    """What runs in one process: a test's file, or its folder where that is one of `ONE_PROCESS`."""
    folder = next((folder for folder in ONE_PROCESS if nodeid.startswith(folder)), None)
    return folder or nodeid.partition("::")[0]


def place_of(nodeid: str) -> int:
    """Where a test comes: of those with the same place, the order of collection stays."""
    return next((place for place, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))
