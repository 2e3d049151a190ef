"""How much the largest tests do: `make test` enough to notice a fault, `make test-thorough` all of it."""

from __future__ import annotations

import os
from typing import TypeVar

IS_THOROUGH = os.environ.get("DOVETAIL_TEST_THOROUGH") == "1"

T = TypeVar("T")


def sized(full: T, *, brief: T) -> T:
    """What a test uses: the full size in a thorough run, otherwise the brief one."""
    return full if IS_THOROUGH else brief
