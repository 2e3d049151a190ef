"""All that a model computes with is on its device, whichever that is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.gpu.foreign_device import CONTROL


@pytest.mark.slow
def test_models_leave_nothing_on_the_host() -> None:
    command = [sys.executable, "-m", "tests.gpu.foreign_device"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    errors = json.loads(done.stdout)
    assert "Expected all tensors to be on the same device" in errors.pop(CONTROL)
    assert errors == {}
