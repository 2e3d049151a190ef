"""The golden outputs of the DOVE script, where they are present beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tests import parity

# The floor of another CPU is 1.4e-5, the smallest wrong step (alpha of step 400) 3.0e-3.
TOLERANCE = 1e-4
NUM_CASES = 10


@pytest.mark.needs_shared
@pytest.mark.parametrize("index", range(NUM_CASES))
@pytest.mark.parametrize("rule", ["sample", "mode"])
def test_golden_case(index: int, rule: Literal["sample", "mode"], shared_dir: Path) -> None:
    root = shared_dir / "parity" / "open"
    case = json.loads((root / "manifest.json").read_text())["cases"][index]
    golden = np.load(root / case["file"])
    output = parity.run(str(root / case["ckpt"]), golden["in_u8"], dict(case["params"]), rule)
    assert list(output.shape) == case["out_shape"]
    difference = np.abs(output.reshape(-1)[golden["pts"]] - golden[f"{rule}_f32_pts"])
    assert difference.max() <= TOLERANCE
